"""Labelled spans learned from demonstrations in the prompt."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from tunewright.catalog import Paper, option
from tunewright.data import spans as lines
from tunewright.data.demonstrations import shuffled
from tunewright.data.formats.base import Beside, Format, Read, Values, text_of, word
from tunewright.data.records import Record, Turn
from tunewright.data.spans import Span
from tunewright.errors import BadInput
from tunewright.recipe import Reading


class SiftSequenceLabeling(Format):
    """A text and its labelled spans, answered line by line after `k` solved examples from the training rows.

    Rows hold a `text` and `spans` (each with `start`, `end` in characters and `label`), or `tokens` and BIO `tags`. The
    answer is one line "words | LABEL" per span in order of appearance, " | n" behind it where the span is the n-th of
    these words behind the span before, or "none". A record is a conversation: k texts with their answers, then the text
    at hand; its answer weighs 1, theirs 0 (`loss_on: all`: 1). Demonstrations are training rows, never held-out ones and
    never the row itself, drawn by a hash of the text and `seed`. Held-out rows have demonstrations too, as in use.
    The paper draws others in every epoch: `draws: n` with one epoch makes n differently drawn records of a row, in the
    place of n epochs over one. `covering` prefers rows with labels not shown yet. The task `span_f1` reads the answers.
    Selection by embeddings is not offered, nor other answer formats than lines.

    When to use: tagging with few labelled rows, and labels or names that are new when the model is used. When not: with
    many rows of a fixed label set, where prompts of this length cost more than they give.
    """

    name: ClassVar[str] = "sift_sequence_labeling"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Supervised In-Context Fine-Tuning for Generative Sequence Labeling", card=281),
    )
    title: ClassVar[str] = "labelled spans (text/spans or tokens/tags)"
    required: ClassVar = (("text", "spans"), ("tokens", "tags"))
    reads: ClassVar[frozenset[str]] = frozenset({"labels"})
    gathers: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"text": "Ann met Bob in Rome", "spans": [
            {"start": 0, "end": 3, "label": "PER"}, {"start": 8, "end": 11, "label": "PER"},
            {"start": 15, "end": 19, "label": "LOC"}]},
        {"text": "Paris met Paris", "spans": [{"start": 10, "end": 15, "label": "LOC"}]},
        {"tokens": ["Eve", "works", "for", "Acme", "Mills"], "tags": ["B-PER", "O", "O", "B-ORG", "I-ORG"]},
        {"text": "nobody came", "spans": []},
        {"text": "The train to Oslo left", "spans": [{"start": 13, "end": 17, "label": "LOC"}]},
        {"text": "Bob wrote to Acme", "spans": [
            {"start": 0, "end": 3, "label": "PER"}, {"start": 13, "end": 17, "label": "ORG"}]},
    )  # fmt: skip

    k: int = option(5, "Demonstrations in a prompt (fewer where there are fewer rows).", changes="tokens", to=1, ge=0)
    instruction: bool = option(
        False, "Begin the prompt with what is to be done, and the list of labels.", changes="tokens", to=True
    )
    selection: Literal["random", "covering"] = option(
        "random", "How demonstrations are chosen: at random, or so that they show as many labels as possible.",
        changes="tokens", to="covering", given={"format.k": 2},
    )  # fmt: skip
    loss_on: Literal["query", "all"] = option(
        "query", "Answers that are learned: that of the text at hand, or the demonstrations' too.", changes="tokens",
        to="all",
    )  # fmt: skip
    draws: int = option(
        1, "Records made of each training row, with other demonstrations each.", changes="tokens", to=2, ge=1
    )
    seed: int = option(0, "Seed of the demonstrations.", changes="tokens", to=1, ge=0)

    def read(self, values: Values, reading: Reading) -> Read:
        text, spans = _tagged(values, reading) if values.get("spans") is None else _listed(values, reading)
        spans = lines.checked(text, spans)
        turns = (Turn("user", text), Turn("assistant", lines.written(text, spans), 1.0))
        return Read(turns, "chat", columns={"text": text, "spans": [list(span) for span in spans]})

    @property
    def completes(self) -> bool:
        return True

    def completed(self, records: Sequence[Record], beside: Beside) -> list[list[Record]]:
        labels = sorted({label for row in beside.rows for label in _labels(row)})
        copies = self.draws if beside.role == "train" else 1
        return [[self._prompted(record, beside.rows, labels, copy) for copy in range(copies)] for record in records]

    def _prompted(self, record: Record, rows: Sequence[Record], labels: Sequence[str], copy: int) -> Record:
        text = record.columns["text"]
        rng = random.Random(f"{self.seed} {copy} {text}")
        others = (row for row in shuffled(rows, rng) if row.columns["text"] != text)
        shown = self._chosen(others, labels)
        weight = float(self.loss_on == "all")
        turns = [
            turn if turn.role == "user" else replace(turn, weight=weight) for row in shown for turn in row.turns
        ] + list(record.turns)
        if self.instruction:
            turns[0] = replace(turns[0], content=f"{_REQUEST.format(', '.join(labels))}\n\n{turns[0].content}")
        return replace(record, turns=tuple(turns), columns={**record.columns, "labels": labels})

    def _chosen(self, others: Iterator[Record], labels: Sequence[str]) -> list[Record]:
        """The first k, or with `covering` first those that show a label not shown yet."""
        chosen: list[Record] = []
        passed: list[Record] = []
        missing = set(labels) if self.selection == "covering" else set()
        for row in others:
            if len(chosen) == self.k or (not missing and len(chosen) + len(passed) >= self.k):
                break
            new = missing & set(_labels(row))
            (chosen if new or not missing else passed).append(row)
            missing -= new
        return (chosen + passed)[: self.k]


_REQUEST = "Name the spans of the text that have one of the labels {}, one on a line as words | LABEL, or none."


def _labels(row: Record) -> list[str]:
    return [label for *_, label in row.columns["spans"]]


def _listed(values: Values, reading: Reading) -> tuple[str, list[Span]]:
    given = values["spans"]
    if not isinstance(given, list):
        raise BadInput("not a list of spans", field="spans", found=given, expected="objects with start, end, label")
    found = []
    for index, item in enumerate(given):
        is_span = isinstance(item, Mapping) and {"start", "end", "label"} <= item.keys()
        if not is_span or not all(type(item[name]) is int for name in ("start", "end")):
            raise BadInput(
                "not a span", field=f"spans.{index}", found=item,
                expected="an object with start and end (whole numbers) and label",
            )  # fmt: skip
        name = word(item["label"])
        found.append(Span(item["start"], item["end"], reading.labels.get(name, name)))
    return text_of(values, "text"), found


def _tagged(values: Values, reading: Reading) -> tuple[str, list[Span]]:
    """Text and spans of tokens with BIO tags: B- begins a span, I- of the same label goes on with it."""
    tokens, tags = values.get("tokens"), values.get("tags")
    if not isinstance(tokens, list) or not isinstance(tags, list) or len(tokens) != len(tags):
        raise BadInput("not a tag for each token", field="tags", found=tags, expected="as many as tokens")
    spans: list[Span] = []
    position, goes_on = 0, False
    for index, (token, tag) in enumerate(zip(tokens, tags, strict=True)):
        name = reading.labels.get(word(tag), word(tag))
        mark, _, label = name.partition("-")
        if name != "O" and (mark not in ("B", "I") or not label):
            raise BadInput("not a BIO tag", field=f"tags.{index}", found=tag, expected="O, B-LABEL or I-LABEL")
        end = position + len(str(token))
        if mark == "I" and goes_on and spans[-1].label == label:
            spans[-1] = spans[-1]._replace(end=end)
        elif name != "O":
            spans.append(Span(position, end, label))
        position, goes_on = end + 1, name != "O"
    return " ".join(map(str, tokens)), spans
