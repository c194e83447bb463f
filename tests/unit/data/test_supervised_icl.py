"""Demonstrations before every prompt."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tunewright.data.augment import SupervisedICL
from tunewright.data.augment.base import Around
from tunewright.data.demonstrations import bare, preceded
from tunewright.data.prepare import prepare
from tunewright.data.preview import preview
from tunewright.data.records import Record, Turn
from tunewright.errors import BadInput
from tunewright.evaluate.rows import OwnRows
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny_tokenizer


def row(n, **more):
    return Record((Turn("user", f"question {n}"), Turn("assistant", f" {n}")), "completion", line=n, **more)


ROWS = [row(n) for n in range(1, 9)]


def augmented(record, rows=ROWS, role="train", mode="verbatim", **options):
    return SupervisedICL(**options).augmented(record, Around(role, rows, lambda one: mode))


def test_k_other_rows_stand_before_the_prompt_without_weight():
    (made,) = augmented(ROWS[0], k=3)
    assert len(made.turns) == 8 and made.turns[-2:] == ROWS[0].turns
    shown = [turn.content for turn in made.turns[:6:2]]
    assert len(set(shown)) == 3 and "question 1" not in shown
    assert all(turn.weight == 0 for turn in made.turns[:6]) and made.turns[6].weight is None
    assert all(turn.content.endswith("\n\n") for turn in made.turns[1:6:2])
    assert not any(turn.content.endswith("\n\n") for turn in augmented(ROWS[0], mode="chat")[0].turns)


def test_every_record_and_copy_has_its_own_and_held_out_rows_one():
    shown = lambda record: [turn.content for turn in record.turns[:-2]]
    copies = augmented(ROWS[0], draws=4)
    assert len(copies) == 4 and len({str(shown(one)) for one in copies}) > 1
    assert len(augmented(ROWS[0], role="eval", draws=4)) == 1
    assert len({str(shown(augmented(one)[0])) for one in ROWS}) > 1


def test_rows_with_the_same_question_or_a_wrong_answer_are_no_demonstrations():
    other = replace(ROWS[0], turns=(ROWS[0].turns[0], Turn("assistant", " another")))
    wrong, text = row(9, label=False), Record((Turn("assistant", "plain"),), "text")
    (made,) = augmented(ROWS[0], rows=[*ROWS[:2], other, wrong, text], k=4)
    assert [turn.content.strip() for turn in made.turns] == ["question 2", "2", "question 1", "1"]


def test_the_system_turn_stays_first_and_both_answers_share_the_prompt():
    turns = (Turn("system", "be brief"), *ROWS[0].turns)
    record = replace(ROWS[0], turns=turns, rejected=(*turns[:-1], Turn("assistant", " no")))
    (made,) = augmented(record, rows=[replace(ROWS[1], turns=(Turn("system", "loud"), *ROWS[1].turns))])
    assert [turn.role for turn in made.turns] == ["system", "user", "assistant", "user", "assistant"]
    assert made.turns[0].content == "be brief" and made.rejected[:-1] == made.turns[:-1]
    assert bare(made) == record


def test_what_was_put_before_is_taken_away():
    twice = preceded(preceded(ROWS[0], ROWS[1:3], "chat"), ROWS[3:4], "chat")
    assert len(twice.turns) == 8 and bare(twice) == ROWS[0] and bare(ROWS[0]) == ROWS[0]


def test_plain_text_is_refused():
    with pytest.raises(BadInput, match="no prompt"):
        augmented(Record((Turn("assistant", "text"),), "text", file="a.txt", line=3))


@pytest.fixture
def files(tmp_path):
    for name, start in (("train", 0), ("held", 20)):
        rows = [{"text": f"piece {start + n}", "label": ("good", "bad")[n % 2]} for n in range(12)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return tmp_path


def recipe(files, **data):
    return Recipe.of(
        model="unused",
        data={"train": str(files / "train.jsonl"), "eval": str(files / "held.jsonl"), "cache": False, **data},
    )


@pytest.mark.parametrize("train_on", ["completion", "all"])
def test_only_the_own_answer_is_learned(files, train_on):
    """With `train_on: all` the prompt is too; the demonstrations are not."""
    own = tiny_tokenizer()
    prepared = prepare(recipe(files, augment={"method": "supervised_icl", "k": 2}, train_on=train_on), own)
    table = prepared.train
    assert len(table) == 12 and len(prepared.eval) == 12
    for n in range(12):
        part = slice(int(table.starts[n]), int(table.starts[n + 1]))
        text = own.decode(table.ids[part].tolist(), skip_special_tokens=True)
        learned = own.decode(table.ids[part][table.weights[part] > 0].tolist(), skip_special_tokens=True)
        assert text.count("piece") == 3 and text.count("Label:") == 3
        assert learned.count("piece") == (train_on == "all") and learned.split()[-1] in ("good", "bad")
    for record in prepared.eval_records:
        assert len(record.turns) == 6 and record.answer.strip() == record.label


def test_preview_shows_the_demonstrations_with_weight_0(files):
    shown = preview(recipe(files, augment={"method": "supervised_icl", "k": 1}), tiny_tokenizer(), 1, plain=True)
    lines = shown.split("\n\n")[0].splitlines()[1:]
    assert [float(line.split("|")[0]) for line in lines] == [0, 1]
    assert lines[0].replace("|", "").replace(" ", "").count("Label:") == 2


def test_rows_that_a_task_names_have_demonstrations_of_the_training_rows(files):
    made = recipe(files, augment="supervised_icl")
    own = OwnRows(tiny_tokenizer(), made, prepare(made, tiny_tokenizer()).completion)
    records = own({"path": str(files / "held.jsonl")}).records
    for record in records:
        shown = [turn.content for turn in record.turns[:-2:2]]
        assert len(shown) == 3 and all(int(text.split()[1]) < 20 for text in shown)


def test_prepared_data_is_found_again_with_its_demonstrations(files, tmp_path):
    made = recipe(files, augment="supervised_icl", cache=True)
    first, again = (prepare(made, tiny_tokenizer(), cache_dir=tmp_path / "cache") for _ in range(2))
    assert again.reused and not first.reused
    assert again.train.ids.tolist() == first.train.ids.tolist()
    assert again.completion.pools == first.completion.pools and len(first.completion.pools[0]) == 12


def test_one_source_may_have_none(files):
    sources = [{"path": str(files / "train.jsonl"), "augment": "supervised_icl"}, {"path": str(files / "held.jsonl")}]
    made = Recipe.of(model="unused", data={"sources": sources, "cache": False})
    prepared = prepare(made, tiny_tokenizer())
    shown = {(record.source, len(record.turns)) for record in prepared.eval_records}
    assert shown == {(0, 8), (1, 2)}


def test_an_option_of_a_named_augmentation_can_be_set(files, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"model: unused\ndata:\n  train: {files / 'train.jsonl'}\n  augment: [supervised_icl]\n")
    assert Recipe.read(file, ["data.augment.0.k=5"]).data.sources[0].augment == (SupervisedICL(k=5),)
    with pytest.raises(BadInput, match="supervised_icl"):
        Recipe.read(file, ["data.augment=supervised_ic"])
