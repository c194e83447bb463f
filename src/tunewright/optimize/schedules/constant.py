"""The constant schedule."""

from __future__ import annotations

from typing import ClassVar

from tunewright.optimize.schedules.base import Schedule


class Constant(Schedule):
    """Stays at the full rate after the rise: factor = 1."""

    name: ClassVar[str] = "constant"

    def after(self, step: int, total: int) -> float:
        return 1.0
