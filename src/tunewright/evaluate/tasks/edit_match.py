"""Generated edits, applied to their source and compared with the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.data import edits
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Further, Subject
from tunewright.evaluate.tasks._generated import Generated, Judge
from tunewright.models.generate import Answer


class EditMatch(Generated):
    """Share of greedy answers whose edits, applied to the source, give the target text.

    For rows of the format `edit_span_targets`. Edits that cannot be read, lie out of range or over an earlier one are
    ignored, so that an answer without any leaves the source as it is. Besides: `copies`, the share of rebuilt texts that
    equal the source; `unreadable`, the share of answers that hold no edit and are not "None"; `length`, the tokens of an
    answer as a share of those of the whole target, the mean over rows.
    """

    name: ClassVar[str] = "edit_match"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Reducing Sequence Length by Predicting Edit Operations with Large Language Models",
            arxiv="2305.11862",
            card=180,
        ),
    )

    def judge(self, subject: Subject) -> Judge:
        """1 where the rebuilt text equals the target, else 0."""
        return lambda answer, record: float(_rebuilt(answer, record) == _words(record, "target"))

    def further(self, subject: Subject, records: Sequence[Record], answers: Sequence[Answer]) -> dict[str, Further]:
        both = list(zip(answers, records, strict=True))
        copies = [_rebuilt(answer, record) == _words(record, "source") for answer, record in both]
        unread = [not edits.parsed(a.text) and a.text.strip() != edits.NONE for a in answers]
        wholes = subject.tokenizer([record.columns["target"] for record in records], add_special_tokens=False)
        lengths = [a.length / max(1, len(ids)) for a, ids in zip(answers, wholes["input_ids"], strict=True)]
        return {
            "copies": Further(np.array(copies, dtype=np.float64), "share", False),
            "unreadable": Further(np.array(unread, dtype=np.float64), "share", False),
            "length": Further(np.array(lengths), "share", False),
        }


def _rebuilt(answer: Answer, record: Record) -> list[str]:
    return edits.applied(_words(record, "source"), edits.parsed(answer.text))


def _words(record: Record, name: str) -> list[str]:
    text = record.columns.get(name)
    if not isinstance(text, str) or record.style != "chat":
        raise BadInput(
            "the row holds no edits", file=record.file or None, line=record.line or None, field=name,
            expected="a row of the format edit_span_targets",
        )  # fmt: skip
    return text.split()
