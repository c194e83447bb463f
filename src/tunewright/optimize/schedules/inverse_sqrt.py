"""The inverse square root schedule."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Paper, option
from tunewright.optimize.schedules.base import Schedule


class InverseSqrt(Schedule):
    """Falls with the root of the step: factor = sqrt(timescale / (timescale + step)).

    With `timescale` equal to the steps of the rise this is the schedule of the Transformer paper.
    """

    name: ClassVar[str] = "inverse_sqrt"
    papers: ClassVar[tuple[Paper, ...]] = (Paper(title="Attention Is All You Need", arxiv="1706.03762"),)

    timescale: float = option(100.0, "Steps after which the factor is 1/sqrt(2).", changes="loss", to=2.0, gt=0)

    def after(self, step: int, total: int) -> float:
        return float((self.timescale / (self.timescale + step)) ** 0.5)
