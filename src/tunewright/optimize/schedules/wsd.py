"""Warmup-stable-decay."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Paper, option
from tunewright.optimize.schedules.base import Schedule


class WSD(Schedule):
    """Stays at the full rate, then falls in a straight line over the last part of the run.

    factor = 1 until the last `decay` share of the steps, then floor + (1 - floor) (steps left / steps of the fall).
    """

    name: ClassVar[str] = "wsd"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="MiniCPM: Unveiling the Potential of Small Language Models", arxiv="2404.06395"),
    )

    decay: float = option(
        0.2, "Share of the steps after the rise in which the rate falls.", changes="loss", to=0.9, gt=0, le=1
    )
    floor: float = option(0.0, "Factor at the end.", changes="loss", to=0.5, ge=0, le=1)

    def after(self, step: int, total: int) -> float:
        fall = max(1, round(self.decay * total))
        left = min(1.0, (total - step) / fall)
        return self.floor + (1 - self.floor) * left
