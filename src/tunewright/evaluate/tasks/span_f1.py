"""Labelled spans that greedy answers name, compared with those of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from tunewright.catalog import Paper, option
from tunewright.data.records import Record
from tunewright.data.spans import Answers, Span, parsed
from tunewright.errors import BadInput
from tunewright.evaluate.base import Further, Subject
from tunewright.evaluate.metrics.weighted_mean import evened
from tunewright.evaluate.tasks._generated import Generated, Judge
from tunewright.models.constrained import Constrained
from tunewright.models.generate import Answer, LogitsProcessor


class SpanF1(Generated):
    """Micro-F1 of labelled spans: F1 = 2 TP / (2 TP + FP + FN) over all rows, places and labels exact.

    For rows of the format `sift_sequence_labeling`. A line of an answer that names no span of the text counts as a wrong
    span. A row's value is its influence on F1, m + (f - m) d / mean(d) with f its own F1 and d = 2 TP + FP + FN, so that
    values average to F1. Besides: precision and recall, and under `details` the F1 of each label and their mean.

    With `constrained` only tokens are chosen that keep the answer the beginning of a legal one: words of the text at or
    behind the last span, a label, a number of an occurrence that exists, a line end or the end.
    """

    name: ClassVar[str] = "span_f1"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Supervised In-Context Fine-Tuning for Generative Sequence Labeling", card=281),
    )

    constrained: bool = option(
        True, "Hold answers to the format, so that none names words that the text lacks.", changes="output", to=False
    )

    def judge(self, subject: Subject) -> Judge:
        """F1 of the row alone; 1 where there is no span and none is named."""
        return lambda answer, record: _ratio(2 * _hits(answer, record), self.weight(answer, record))

    def weight(self, answer: Answer, record: Record) -> float:
        """Spans of the row and of the answer."""
        return float(len(_wanted(record)) + _named(answer, record))

    def processors(
        self, subject: Subject, records: Sequence[Record], prompts: Sequence[Sequence[int]]
    ) -> tuple[LogitsProcessor, ...]:
        if not self.constrained:
            return ()
        languages = [Answers(_column(record, "text"), _column(record, "labels")) for record in records]
        return (Constrained(subject.tokenizer, languages, [len(prompt) for prompt in prompts], subject.stop),)

    def further(self, subject: Subject, records: Sequence[Record], answers: Sequence[Answer]) -> dict[str, Further]:
        both = list(zip(answers, records, strict=True))
        hits = [_hits(*each) for each in both]
        counts = {"precision": [_named(*each) for each in both], "recall": [len(_wanted(each)) for each in records]}
        none = float(not any(map(sum, counts.values())))
        return {
            name: Further(
                evened([_ratio(*each, none) for each in zip(hits, number, strict=True)], number), "share", True
            )
            for name, number in counts.items()
        }

    def about(self, records: Sequence[Record], answers: Sequence[Answer]) -> dict[str, Any]:
        """F1 by label, and its mean over labels."""
        hits: Counter[str] = Counter()
        either: Counter[str] = Counter()
        for answer, record in zip(answers, records, strict=True):
            found, wanted = _found(answer, record)[0], _wanted(record)
            either.update(label for *_, label in [*found, *wanted])
            hits.update(label for *_, label in set(found) & set(wanted))
        by_label = {label: 2 * hits[label] / count for label, count in sorted(either.items())}
        return {"f1": by_label, "macro_f1": sum(by_label.values()) / max(1, len(by_label))}


def _found(answer: Answer, record: Record) -> tuple[list[Span], int]:
    return parsed(answer.text, _column(record, "text"), _column(record, "labels"))


def _named(answer: Answer, record: Record) -> int:
    found, faults = _found(answer, record)
    return len(found) + faults


def _hits(answer: Answer, record: Record) -> int:
    return len(set(_found(answer, record)[0]) & set(_wanted(record)))


def _wanted(record: Record) -> list[Span]:
    return [Span(*span) for span in _column(record, "spans")]


def _ratio(part: float, whole: float, of_none: float = 1.0) -> float:
    return part / whole if whole else of_none


def _column(record: Record, name: str) -> Any:
    if not {"text", "spans", "labels"} <= record.columns.keys():
        raise BadInput(
            "the row holds no labelled spans", file=record.file or None, line=record.line or None, field=name,
            expected="a row of the format sift_sequence_labeling",
        )  # fmt: skip
    return record.columns[name]
