"""The cosine schedule."""

from __future__ import annotations

import math
from typing import ClassVar

from tunewright.catalog import Paper, option
from tunewright.optimize.schedules.base import Schedule


class Cosine(Schedule):
    """Falls along half a cosine: factor = floor + (1 - floor) (1 + cos(pi step / total)) / 2."""

    name: ClassVar[str] = "cosine"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="SGDR: Stochastic Gradient Descent with Warm Restarts", arxiv="1608.03983"),
    )

    floor: float = option(0.0, "Factor at the end.", changes="loss", to=0.5, ge=0, le=1)

    def after(self, step: int, total: int) -> float:
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * step / total)) / 2
