"""REX: reflected exponential."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from tunewright.catalog import Paper, option
from tunewright.optimize.schedules.base import Schedule


class Rex(Schedule):
    """Stays above the straight line for most of the run and falls fast at its end: factor = 2 (1 - z) / (2 - z).

    z = step / total is the progress after the rise, so that the last of T steps has 2 / (T + 1). The slope is -1/2 at
    the start and -2 at the end. With `sampling` the profile is read at those points alone and held between them:
    [0.5, 0.75] gives 1, 2/3 and 2/5. The paper uses no warm-up.

    When to use: the length of the run is known, short or long; one setting serves both. When not: the run may be
    stopped early or prolonged, where `wsd` or `power` fit better.
    """

    name: ClassVar[str] = "rex"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="REX: Revisiting Budgeted Training with an Improved Schedule", arxiv="2107.04197", card=205),
    )

    floor: float = option(0.0, "Smallest factor.", changes="loss", to=0.5, ge=0, le=1)
    sampling: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = option(
        (), "Shares of the run, rising, at which the profile is read; at every step when empty.",
        changes="loss", to=[0.5, 0.75],
    )  # fmt: skip

    @field_validator("sampling")
    @classmethod
    def _rising(cls, points: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(points)):
            raise ValueError("the points must rise")
        return points

    def after(self, step: int, total: int) -> float:
        z = step / total
        if self.sampling:
            z = max((point for point in self.sampling if point <= z), default=0.0)
        return max(self.floor, 2 * (1 - z) / (2 - z))
