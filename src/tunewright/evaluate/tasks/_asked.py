"""The mechanism of every task that asks the rows' prompts in some way: rows of plain text have none."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tunewright.evaluate.base import Role, Subject, Task
from tunewright.evaluate.prompts import answerable

SHORT = 200
"""Characters up to which an answer is short: as a whole it may be right, and likely."""


class Asked(Task):
    """A task on rows that have a prompt and an answer; others are left out whole, with a warning.

    `short` says that the task compares whole answers, so that most of them must be short.
    """

    role: ClassVar[Role] = "other"
    short: ClassVar[bool] = True

    def omitted(self, subject: Subject) -> str | None:
        """The warning when a row has no prompt or no answer, or answers are too long to be right as a whole."""
        records = self.rows(subject).records
        faulty = next((record for record in records if not answerable([record])), None)
        if faulty is not None:
            return (
                "calibration and sensitivity to the prompt were not measured: the row at "
                f"{faulty.where} has no prompt with an answer in words"
            )
        length = float(np.median([len(record.answer) for record in records]))
        if self.short and length > SHORT:
            return (
                "calibration and the spread over prompt formats were not measured: answers have "
                f"{length:.0f} characters, more than {SHORT}, so that none is right or likely as a whole"
            )
        return None
