"""The Schedule protocol: the learning rate as a pure function of the step, or found while running."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Method, option
from tunewright.hooks import Hook


class Schedule(Method):
    """The factor on the learning rate at each optimizer step, a function of (step, total) alone."""

    kind: ClassVar[str] = "schedule"

    warmup: float = option(
        0.03, "Linear rise from 0: a share of the run below 1, a number of steps from 1 on.", changes="loss", to=4.0, ge=0
    )  # fmt: skip

    def hook(self) -> Hook | None:
        """What acts in the loop where the rate depends on what the run does; it may set `loop.factor`."""
        return None

    def factor(self, step: int, total: int) -> float:
        """The factor at `step` (0 is the first) of `total` steps: the rise, then `after` over what is left."""
        rise = round(self.warmup * total) if self.warmup < 1 else round(self.warmup)
        if step < rise:
            return (step + 1) / rise
        return self.after(step - rise, max(1, total - rise))

    def after(self, step: int, total: int) -> float:
        """The factor at `step` of `total` steps after the rise."""
        raise NotImplementedError
