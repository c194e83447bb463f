"""Whether answers end by themselves."""

from __future__ import annotations

from typing import ClassVar

from tunewright.evaluate.base import Role, Subject
from tunewright.evaluate.tasks._generated import Generated, Judge


class StopRate(Generated):
    """Share of greedy answers that end by themselves, with a stop token, before the longest length allowed.

    Measured with every task that generates; this task alone is for recipes that have none.
    """

    name: ClassVar[str] = "stop_rate"
    role: ClassVar[Role] = "other"

    def judge(self, subject: Subject) -> Judge:
        """1 for an answer that ended by itself, else 0."""
        return lambda answer, record: float(answer.stopped)
