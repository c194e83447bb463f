"""Re-warming: the schedule for training a finished model further."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Paper, option
from tunewright.optimize.schedules.cosine import Cosine


class Rewarm(Cosine):
    """Raises the rate again over 1% of the run, then lets it fall along half a cosine to a tenth.

    `optimizer.lr` is the new peak: 0.5, 1 or 2 times that of the stage before. A higher peak ends lower on the new
    data and higher on the old; the length of the rise hardly matters. Steps are counted so that the first is not
    wasted: with w steps of rise the first has peak / w (the paper's curve is 0 before it).

    When to use: to go on training a model that was trained to a small rate, on much new data. When not: few new data,
    where staying at the old final rate (`constant`) forgets less.
    """

    name: ClassVar[str] = "rewarm"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Continual Pre-Training of Large Language Models: How to (re)warm your model?",
            arxiv="2308.04014",
            card=216,
        ),
    )

    warmup: float = option(
        0.01, "Linear rise from 0: a share of the run below 1, a number of steps from 1 on.", changes="loss", to=4.0, ge=0
    )  # fmt: skip
    floor: float = option(0.1, "Factor at the end.", changes="loss", to=0.5, ge=0, le=1)
