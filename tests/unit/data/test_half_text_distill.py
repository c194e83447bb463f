"""Halves of plain texts as conversations."""

from __future__ import annotations

import random

import pytest
from format_rows import completed, made, prepared, read_rows

from tunewright.data.formats.half_text_distill import clipped, halves, looks_instructed, refuses
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

TEXTS = [f"The {n}th fox ran over the hill and slept there until the {n}th morning came" for n in range(30)]
ASKING = ["Write a poem about the sea and the wind.", "User: hello\nAssistant: hello, how are you?"]


class Writer:
    """Answers with how often it was asked, and what; some answers are refusals or empty."""

    digest = "writer"

    def __init__(self, *answers):
        self.answers, self.asked, self.calls = answers, [], 0

    def __call__(self, records, temperature, seed):
        self.calls += 1
        self.asked += records
        return [self.answers[n % len(self.answers)] if self.answers else f"said {n}" for n in range(len(records))]


def test_the_halves_are_the_text_and_no_word_is_cut():
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(rng.choice("ab  \n") for _ in range(rng.randrange(1, 30)))
        share = rng.choice([0.25, 0.5, 0.8])
        parts = halves(text, share)
        if parts is None:
            assert " " not in text.strip()
            continue
        first, second = parts
        assert first + second == text and second.startswith(" ") and first.strip() and second.strip()
        better = [i for i in range(len(text)) if text[i] == " " and text[:i].strip() and text[i:].strip()]
        assert min(better, key=lambda i: (abs(i - share * len(text)), i)) == len(first)


def test_a_tie_goes_to_the_left_and_a_single_word_is_no_row():
    assert halves("abc d ef") == ("abc", " d ef")
    assert halves("unsplittable") is None and halves(" blanks outside ") is not None
    assert halves(" one ") is None
    assert (
        read_rows("half_text_distill", [{"text": "unsplittable"}, {"text": "two words"}], variant="original")[0]
        .turns[0]
        .content
        == "two"
    )


def test_long_texts_are_clipped_behind_a_word():
    assert clipped("  one two\nthree four", 3) == "  one two\nthree"
    assert clipped("one two", 3) == clipped("one two", None) == "one two"
    (record,) = read_rows("half_text_distill", [{"text": TEXTS[0]}], variant="original", max_words=4)
    assert [turn.content for turn in record.turns] == ["The 0th", "fox ran"]


def test_the_original_variant_asks_no_model():
    writer = Writer()
    read = read_rows("half_text_distill", [{"text": text} for text in TEXTS], variant="original")
    assert completed("half_text_distill", read, writers={"teacher": writer}, variant="original") == [[r] for r in read]
    assert writer.calls == 0 and made("half_text_distill", variant="original").needs == frozenset()


@pytest.mark.parametrize(("variant", "name"), [("teacher", "teacher"), ("self", "model")])
def test_continuations_are_learned_and_hold_nothing_of_the_second_half_in_the_prompt(variant, name):
    writer = Writer("  a continuation ", "")
    read = read_rows("half_text_distill", [{"text": text} for text in TEXTS[:4]], variant=variant)
    found = completed("half_text_distill", read, writers={name: writer}, variant=variant)
    assert [len(each) for each in found] == [1, 0, 1, 0]
    for (record,), text in zip(found[::2], TEXTS[:4:2], strict=True):
        asked, said = record.turns
        first, second = halves(text)
        assert (asked.role, asked.content, said.content) == ("user", first, "a continuation")
        assert text.startswith(asked.content) and second not in asked.content
    assert [turn.role for turn in writer.asked[0].prompt] == ["system", "user"]
    assert made("half_text_distill", variant=variant).needs == ({"teacher"} if variant == "teacher" else set())


def test_refusals_and_instructions_are_told_apart():
    assert refuses("I'm sorry, but I cannot continue this.") and refuses("As an AI model I do not")
    assert not refuses("He was sorry, as an aide.") and not refuses("As an aide he wrote")
    assert all(looks_instructed(text) for text in [*ASKING, "What is the sea?"])
    assert not any(looks_instructed(text) for text in [*TEXTS, "What is more, he came.", "He wrote a poem."])


def test_flagged_rows_are_marked_or_removed(tmp_path, tokenizer):
    rows = [{"text": text} for text in [*TEXTS, *ASKING]]
    read = read_rows("half_text_distill", rows, variant="original")
    assert sum(record.columns["instructed"] for record in read) == len(ASKING)
    form = {"method": "half_text_distill", "variant": "original", "instructions": "remove"}
    data = prepared(tmp_path, tokenizer, rows, format=form)
    assert len(data.train) + len(data.eval) == len(rows) - len(ASKING)
    assert sum(report.left_out for report in data.sources if report.role == "train") == len(ASKING)


def test_a_run_needs_the_teacher_and_asks_it_once(tmp_path, tokenizer):
    rows = [{"text": text} for text in TEXTS]
    with pytest.raises(BadInput, match="'half_text_distill' needs 'teacher'"):
        Recipe.of(model="unused", data={"train": "x", "format": "half_text_distill"})
    given = {"format": "half_text_distill", "supplies": {"teacher": "x"}, "cache": tmp_path / "cache"}
    writer, second = Writer("an answer", "I cannot do that"), Writer()
    data = prepared(tmp_path, tokenizer, rows, writers={"teacher": writer}, **given)
    again = prepared(tmp_path, tokenizer, rows, writers={"teacher": second}, **given)
    assert second.calls == 0 and again.reused and again.train.ids.tolist() == data.train.ids.tolist()
    for report in data.sources:
        assert report.rows == report.kept + report.left_out + report.held_out
    assert {record.answer for record in data.eval_records} == {"an answer"}
    second.digest = "another"
    assert not prepared(tmp_path, tokenizer, rows, writers={"teacher": second}, **given).reused
    with pytest.raises(BadInput, match="needs a model to write"):
        prepared(tmp_path, tokenizer, rows, **{**given, "cache": None})
