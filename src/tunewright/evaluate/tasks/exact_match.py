"""Generated answers that equal the reference."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from tunewright.catalog import option
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Subject
from tunewright.evaluate.metrics import answers as metrics
from tunewright.evaluate.tasks._generated import Generated, Judge
from tunewright.models.generate import Answer


class ExactMatch(Generated):
    """Share of greedy answers whose text equals the reference's.

    `answer` says which part counts, in the answer and in the reference alike: `whole`, `last_number` (written plainly,
    without thousands marks), `last_line`, `after MARK` (as 'after ####') or `regex PATTERN` (last match, first group).
    White space is collapsed before comparing. An answer without such a part is wrong.
    """

    name: ClassVar[str] = "exact_match"

    answer: str = option(
        "whole",
        f"The part that counts: {metrics.RULES}.",
        changes="output",
        to="last_line",
        given={"evaluate.max_new_tokens": 6},
    )
    ignore_case: bool = option(
        False, "Compare without regard to case.", changes="output", to=True, given={"evaluate.max_new_tokens": 6}
    )
    ignore_punctuation: bool = option(
        False, "Compare without punctuation.", changes="output", to=True, given={"evaluate.max_new_tokens": 6}
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
        found = metrics.extract(answer.text, self.answer)
        return metrics.exact_match(found, wanted, self.ignore_case, self.ignore_punctuation)


def reference(record: Record, rule: str) -> str:
    """The part of the record's own answer that counts. Raises `BadInput` where it has none."""
    wanted = metrics.extract(record.answer, rule)
    if wanted is None:
        raise BadInput(
            f"the reference has no part '{rule}'", file=record.file or None, line=record.line or None,
            found=record.answer, hint="Choose another 'answer' under evaluate.",
        )  # fmt: skip
    return wanted
