"""The linear schedule."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import option
from tunewright.optimize.schedules.base import Schedule


class Linear(Schedule):
    """Falls in a straight line: factor = floor + (1 - floor) (1 - step / total)."""

    name: ClassVar[str] = "linear"

    floor: float = option(0.0, "Factor at the end.", changes="loss", to=0.5, ge=0, le=1)

    def after(self, step: int, total: int) -> float:
        return self.floor + (1 - self.floor) * (1 - step / total)
