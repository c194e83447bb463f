"""The mechanism of every task that asks the rows' prompts in some way: rows of plain text have none."""

from __future__ import annotations

from typing import ClassVar

from tunewright.evaluate.base import Role, Subject, Task
from tunewright.evaluate.prompts import answerable


class Asked(Task):
    """A task on rows that have a prompt and an answer; others are left out whole, with a warning."""

    role: ClassVar[Role] = "other"

    def omitted(self, subject: Subject) -> str | None:
        """The warning when rows have no prompt or no answer."""
        records = self.rows(subject).records
        if answerable(records):
            return None
        faulty = next(record for record in records if not answerable([record]))
        return (
            f"{self.name} was not measured: the row at {faulty.where} has no prompt with an answer in words. "
            f"Name rows that have under 'evaluate: [{{task: {self.name}, data: FILE}}]'."
        )
