"""Rows of several answers with rewards: read, tabulated side by side, refused where they do not fit."""

import numpy as np
import pytest

from tunewright.data.cache import packed, unpacked
from tunewright.data.duplicates import content
from tunewright.data.formats.scored_answers import ScoredAnswers
from tunewright.data.prepare import prepare
from tunewright.data.reading import Reader
from tunewright.document import Keys
from tunewright.errors import BadInput
from tunewright.objectives import ADPO, DPO, SFT
from tunewright.recipe import Recipe, SourceSpec

ROWS = [
    {"prompt": f"say {k}: ", "answers": [f"not {k}", f"{k} it is", f"maybe {k}"], "rewards": [0, 1, 0.5]}
    for k in range(60)
]


def table_of(path, objective, tokenizer):
    data = {"train": [{"path": str(path), "split": 0.1}], "cache": False}
    return prepare(Recipe.of(model="unused", data=data, objective=objective), tokenizer).train


def texts(table, tokenizer):
    return [tokenizer.decode(table.ids[a:b]) for a, b in zip(table.starts, table.starts[1:], strict=False)]


def test_all_answers_of_a_row_stand_side_by_side_with_their_rewards(write, tokenizer):
    table = table_of(write("rows.jsonl", ROWS), ADPO(), tokenizer)
    units = len(table) // 3
    assert table.together == 3 and 40 < units < 60
    assert table.columns["answer_reward"].tolist() == [0, 1, 0.5] * units
    assert table.columns["answer_number"].tolist() == [0, 1, 2] * units
    lines = table.columns["line"].reshape(-1, 3)
    assert (lines == lines[:, :1]).all()
    for text, words, line in zip(
        texts(table, tokenizer), ["not", "it is", "maybe"] * units, lines.ravel(), strict=True
    ):
        assert words in text and str(line - 1) in text


def test_a_pair_is_a_group_of_two(write, tokenizer):
    rows = [{"prompt": f"say {k}: ", "chosen": f"{k} it is", "rejected": f"not {k}"} for k in range(60)]
    table = table_of(write("pairs.jsonl", rows), ADPO(), tokenizer)
    assert table.together == 2 and table.columns["answer_reward"].tolist() == [1, 0] * (len(table) // 2)


def test_pairs_are_the_best_and_the_worst_and_the_best_is_learned(write, tokenizer):
    path = write("rows.jsonl", ROWS)
    pairs = texts(table_of(path, DPO(), tokenizer), tokenizer)
    assert all("it is" in one for one in pairs[::2]) and all("not" in one for one in pairs[1::2])
    assert all("it is" in one for one in texts(table_of(path, SFT(), tokenizer), tokenizer))


@pytest.mark.parametrize("objective", [DPO(), ADPO()])
def test_both_answers_of_a_long_conversation_are_judged_alone(write, tokenizer, objective):
    before = lambda k: [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "an earlier answer"},
        {"role": "user", "content": f"b {k}"},
    ]
    answer = lambda k, text: [*before(k), {"role": "assistant", "content": text}]
    rows = [{"chosen": answer(k, f"good {k}"), "rejected": answer(k, f"poor {k}")} for k in range(60)]
    table = table_of(write("pairs.jsonl", rows), objective, tokenizer)
    for start, end in zip(table.starts, table.starts[1:], strict=False):
        learned = tokenizer.decode(table.ids[start:end][np.asarray(table.weights[start:end]) > 0])
        assert "earlier" not in learned and ("good" in learned or "poor" in learned)


def test_a_row_with_another_number_of_answers_is_refused(write, tokenizer):
    rows = [*ROWS[:40], {"prompt": "say", "answers": ["a", "b"], "rewards": [1, 2]}]
    data = {"train": str(write("rows.jsonl", rows)), "eval": str(write("held.jsonl", ROWS[50:])), "cache": False}
    with pytest.raises(BadInput, match="another number of answers") as fault:
        prepare(Recipe.of(model="unused", data=data, objective=ADPO()), tokenizer)
    assert fault.value.line == 41 and fault.value.found == 2 and fault.value.expected == "3"


def test_rows_without_rewards_are_refused(write, tokenizer):
    rows = [{"prompt": f"say {k}", "completion": "it"} for k in range(60)]
    with pytest.raises(BadInput, match="not a group of answers"):
        table_of(write("plain.jsonl", rows), ADPO(), tokenizer)


@pytest.mark.parametrize(
    ("change", "message", "field"),
    [
        ({"rewards": [1, 2]}, "not one per answer", "rewards"),
        ({"rewards": [1, True, 0]}, "not a reward", "rewards.1"),
        ({"rewards": [1, float("nan"), 0]}, "not a reward", "rewards.1"),
        ({"answers": ["a"]}, "not a list of two or more", "answers"),
        ({"answers": "a"}, "not a list of two or more", "answers"),
        ({"answers": ["a", 5.0, None]}, "missing", "answers.2"),
    ],
)
def test_what_cannot_be_used_is_named(change, message, field):
    with pytest.raises(BadInput, match=message) as fault:
        ScoredAnswers().read({**ROWS[0], **change}, None)
    assert fault.value.field == field


def test_a_record_is_kept_and_told_apart_by_its_answers_and_rewards(write):
    rows = [ROWS[0], {**ROWS[0], "rewards": [0, 1, 0.25]}, {**ROWS[0], "answers": ["not 0", "0 it is", "perhaps 0"]}]
    records = list(Reader(SourceSpec(path=str(write("rows.jsonl", rows))), Keys(None, {})).records())
    assert [unpacked(packed(record)) for record in records] == records
    assert len({content(record) for record in records}) == 3
    assert [turns[-1].content for turns, _ in records[0].scored] == ROWS[0]["answers"]
