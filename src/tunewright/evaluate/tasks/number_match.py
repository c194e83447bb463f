"""Generated answers whose number is right."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from tunewright.catalog import option
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Subject
from tunewright.evaluate.metrics import answers as metrics
from tunewright.evaluate.tasks._generated import Generated, Judge
from tunewright.evaluate.tasks.exact_match import reference
from tunewright.models.generate import Answer


class NumberMatch(Generated):
    """Share of greedy answers whose last number equals the reference's last number.

    Right when |answer - reference| <= tolerance * |reference|. `answer` narrows the text in which the number is looked
    for, as in `exact_match`; thousands commas are understood.
    """

    name: ClassVar[str] = "number_match"

    answer: str = option(
        "whole",
        f"Where the number is looked for: {metrics.RULES}.",
        changes="output",
        to=r"regex (\d)",
        given={"evaluate.max_new_tokens": 6},
    )
    tolerance: float = option(
        0.0,
        "Relative difference that still counts as equal.",
        changes="output",
        to=0.5,
        ge=0,
        given={"evaluate.max_new_tokens": 6},
    )

    @field_validator("answer")
    @classmethod
    def _known_rule(cls, value: str) -> str:
        return metrics.check_rule(value)

    def judge(self, subject: Subject) -> Judge:
        """1 for a right answer, else 0."""
        return self._value

    def _value(self, answer: Answer, record: Record) -> float:
        wanted = reference(record, self.answer)
        if not metrics.numbers(wanted):
            raise BadInput(
                "the reference has no number", file=record.file or None, line=record.line or None, found=wanted
            )
        return metrics.number_match(metrics.extract(answer.text, self.answer), wanted, self.tolerance)
