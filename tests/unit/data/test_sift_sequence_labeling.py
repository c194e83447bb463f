"""Labelled spans with demonstrations from the training rows."""

from __future__ import annotations

import json
import random

import pytest
from format_rows import completed, made, prepared, read_rows

from tunewright.data.prepare import prepare
from tunewright.data.spans import Answers, Span, checked, parsed, written
from tunewright.data.templates import Renderer
from tunewright.errors import BadInput
from tunewright.recipe import Reading, Recipe

WORDS = ["Paris", "met", "Bob", "|", "none", "Paris,", "a | LOC", "x|y", "LOC", "2"]
LABELS = ["LOC", "PER"]


def drawn(seed):
    """A text of repeated words, and spans of it that do not overlap."""
    rng = random.Random(seed)
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 12)))
    spans, position = [], 0
    while rng.random() < 0.8:
        words = [(m, n) for m in range(position, len(text)) for n in range(m + 1, len(text) + 1)]
        words = [(m, n) for m, n in words if text[m:n] == text[m:n].strip() and _is_whole(text, m, n)]
        if not words:
            break
        start, position = rng.choice(words)
        spans.append(Span(start, position, rng.choice(LABELS)))
    return text, spans


def _is_whole(text, start, end):
    inside = [place for place in (start, end) if 0 < place < len(text)]
    return not any(text[place - 1].isalnum() and text[place].isalnum() for place in inside)


def test_reading_undoes_writing():
    for seed in range(400):
        text, spans = drawn(seed)
        answer = written(text, checked(text, spans))
        assert parsed(answer, text, LABELS) == (spans, 0), (text, answer)
        language = Answers(text, LABELS)
        assert all(language.begins(answer[:n]) for n in range(len(answer) + 1)) and language.whole(answer)


def test_a_later_occurrence_is_numbered():
    text = "Paris met Paris"
    assert written(text, [Span(10, 15, "LOC")]) == "Paris | LOC | 2"
    assert written(text, [Span(0, 5, "LOC"), Span(10, 15, "LOC")]) == "Paris | LOC\nParis | LOC"
    assert written("Parisian Paris", [Span(9, 14, "LOC")]) == "Paris | LOC"
    assert written(text, []) == "none" and parsed("none", text, LABELS) == ([], 0)


@pytest.mark.parametrize(
    ("answer", "faults"),
    [("Rome | LOC", 1), ("Paris | ORG", 1), ("Paris | LOC | 3", 1), ("x\nParis | LOC", 1), ("", 0)],
)
def test_lines_that_name_no_span_are_counted(answer, faults):
    assert parsed(answer, "Paris met Paris", LABELS)[1] == faults


@pytest.mark.parametrize(
    "answer", ["Rome", "Paris | ORG", "Paris | LOC | 3", "Paris | LOC | 1", "aris", "none\n", "\n"]
)
def test_illegal_answers_are_begun_by_nothing(answer):
    assert not Answers("Paris met Paris", LABELS).begins(answer)


def test_no_line_goes_back():
    language = Answers("Bob met Ann", LABELS)
    assert language.begins("met Ann | PER") and not language.begins("met Ann | PER\n")
    assert language.begins("met | PER\nA") and not language.begins("met | PER\nB")


ROWS = [
    {"text": f"{name} went to {place} on day {n}", "spans": [
        {"start": 0, "end": len(name), "label": "PER"},
        {"start": len(name) + 9, "end": len(name) + 9 + len(place), "label": "LOC" if n % 10 else "ORG"}]}
    for n, (name, place) in enumerate((name, place) for name in ("Ann", "Bob", "Eve", "Tim") for place in
                                      ("Rome", "Oslo", "Kiel", "Bern", "Graz"))
]  # fmt: skip


def test_demonstrations_are_other_training_rows_and_only_the_query_is_learned(tokenizer):
    read = read_rows("sift_sequence_labeling", ROWS)
    texts = {record.columns["text"] for record in read}
    renderer = Renderer(tokenizer, Reading())
    for (record,), query in zip(completed("sift_sequence_labeling", read, pool=read), read, strict=True):
        asked = [turn.content for turn in record.turns if turn.role == "user"]
        assert len(asked) == 6 and asked[-1] == query.columns["text"]
        assert len(set(asked)) == 6 and set(asked) <= texts
        rendered = renderer.render(record)
        answer = renderer.encoder.ids([query.answer])[0]
        assert rendered.trained == len(answer) + 1
        assert tokenizer.decode([i for i, w in zip(rendered.ids, rendered.weights, strict=True) if w]).startswith(
            query.answer
        )
        assert record.columns["labels"] == ["LOC", "ORG", "PER"]
    ((every,),) = completed("sift_sequence_labeling", read[:1], pool=read, loss_on="all")
    assert [turn.weight for turn in every.turns if turn.role == "assistant"] == [1.0] * 6


def test_without_demonstrations_and_instruction_the_prompt_is_the_text():
    read = read_rows("sift_sequence_labeling", ROWS)
    ((record,),) = completed("sift_sequence_labeling", read[:1], pool=read, k=0)
    assert [turn.content for turn in record.prompt] == [ROWS[0]["text"]]
    ((told,),) = completed("sift_sequence_labeling", read[:1], pool=read, k=0, instruction=True)
    assert told.prompt[0].content.endswith(f"\n\n{ROWS[0]['text']}") and "LOC, ORG, PER" in told.prompt[0].content


def test_each_draw_has_other_demonstrations_but_held_out_rows_are_drawn_once():
    read = read_rows("sift_sequence_labeling", ROWS)
    (copies,) = completed("sift_sequence_labeling", read[:1], pool=read, draws=3)
    assert len({record.turns for record in copies}) == 3
    assert {record.turns[-2:] for record in copies} == {read[0].turns}
    (held,) = completed("sift_sequence_labeling", read[:1], "eval", pool=read, draws=3)
    assert len(held) == 1


def test_covering_demonstrations_show_every_label():
    read = read_rows("sift_sequence_labeling", ROWS)
    for selection, always in (("covering", True), ("random", False)):
        found = completed("sift_sequence_labeling", read, pool=read, k=2, selection=selection)
        shown = [any("ORG" in turn.content for turn in record.turns[:-2]) for (record,) in found]
        assert all(shown) == always
        assert all(len(record.turns) == 6 for (record,) in found)


def test_no_held_out_row_stands_in_a_prompt(tmp_path, tokenizer):
    data = prepared(tmp_path, tokenizer, ROWS, format={"method": "sift_sequence_labeling", "draws": 2}, split=0.3)
    held = {record.columns["text"] for record in data.eval_records}
    trained = tokenizer.decode(data.train.ids)
    assert held and len(data.train) == 2 * (len(ROWS) - len(held))
    assert not any(text in trained for text in held)
    for record in data.eval_records:
        shown = [turn.content for turn in record.prompt if turn.role == "user"]
        assert len(shown) == 6 and not held & set(shown[:-1])
    for report in data.sources:
        assert report.rows == report.kept + report.held_out


def test_rows_held_out_of_one_source_stand_in_no_prompt_of_another(tmp_path, tokenizer):
    paths = []
    for name, rows in (("a", ROWS), ("b", [*ROWS[:3], *ROWS[::-1]])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append({"path": str(path), "duplicates": "keep", "split": 0.3 if name == "a" else 0.02})
    recipe = Recipe.of(model="unused", data={"train": paths, "format": "sift_sequence_labeling", "cache": False})
    data = prepare(recipe, tokenizer)
    held = {record.columns["text"] for record in data.eval_records if record.source == 0}
    trained = tokenizer.decode(data.train.ids)
    assert held and not any(text in trained for text in held)


def test_evaluation_rows_of_a_file_draw_on_the_training_rows(tmp_path, tokenizer):
    other = tmp_path / "eval.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:3]))
    for cache in (tmp_path / "cache", tmp_path / "cache"):
        data = prepared(tmp_path, tokenizer, ROWS, eval=str(other), format="sift_sequence_labeling", cache=cache)
        assert [record.columns["text"] for record in data.eval_records] == [row["text"] for row in ROWS[:3]]
        assert not any(row["text"] in tokenizer.decode(data.train.ids) for row in ROWS[:3])
        assert len(data.completion.pools[0]) == len(ROWS) - 3
    assert data.reused


def test_bio_tags_become_spans():
    row = {"tokens": ["Eve", "works", "for", "Acme", "Mills"], "tags": ["B-PER", "O", "O", "B-ORG", "I-ORG"]}
    (record,) = read_rows("sift_sequence_labeling", [row])
    assert record.answer == "Eve | PER\nAcme Mills | ORG"
    numbers = {**row, "tags": [1, 0, 0, 2, 3]}
    names = {"0": "O", "1": "B-PER", "2": "B-ORG", "3": "I-ORG"}
    assert read_rows("sift_sequence_labeling", [numbers], {"labels": names})[0].answer == record.answer


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "Paris", "spans": [{"start": 0, "end": 3, "label": "X"}]}, "not whole words"),
        ({"text": "Paris", "spans": [{"start": 0, "end": 9, "label": "X"}]}, "outside of the text"),
        ({"text": "a b", "spans": [{"start": 0, "end": 3, "label": "X"}, {"start": 2, "end": 3, "label": "X"}]}, "overlap"),
        ({"text": "a b", "spans": [{"start": 0, "end": 1}]}, "not a span"),
        ({"text": "a b", "spans": [{"start": 0, "end": 1, "label": "7"}]}, "not a label"),
        ({"tokens": ["a"], "tags": ["B"]}, "not a BIO tag"),
        ({"tokens": ["a"], "tags": []}, "not a tag for each token"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_written_are_refused(row, said):
    with pytest.raises(BadInput, match=said):
        read_rows("sift_sequence_labeling", [row])


def test_the_number_of_demonstrations_is_within_what_there_is():
    read = read_rows("sift_sequence_labeling", ROWS[:3])
    ((record,),) = completed("sift_sequence_labeling", read[:1], pool=read)
    assert len(record.turns) == 6
    assert made("sift_sequence_labeling").k == 5
