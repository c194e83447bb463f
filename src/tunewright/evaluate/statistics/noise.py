"""How much a task's score moves when nothing but the seed changes (arXiv 2406.10229)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tunewright.evaluate.statistics import resampling
from tunewright.evaluate.statistics.power import detectable
from tunewright.evaluate.statistics.resampling import Interval

Values = NDArray[np.float64]


@dataclass(frozen=True)
class SeedNoise:
    """A task's score over runs that differ in the seed alone.

    `mean` and `sigma` (n - 1) at the last checkpoint; `snr` = |mean - chance| / sigma (infinite at sigma 0); `interval`
    of one run's score over other examples, averaged over the runs; `monotonicity` is Kendall's tau-b between the order
    of the checkpoints and the score, mean over the runs, 0 where a run does not move; `difficulty` [items] is the mean
    per item and `discrimination` [items] its correlation with the mean of the other items over the runs (0 where one
    of them does not move).
    """

    mean: float
    sigma: float
    snr: float
    interval: Interval
    monotonicity: float | None
    difficulty: Values
    discrimination: Values
    seeds: int

    def detectable(self, seeds: int, power: float = 0.5) -> float:
        """The difference between two arms of `seeds` runs each that this noise lets one see with probability `power`."""
        return detectable(self.sigma, seeds, power)


def seed_noise(scores: Values, *, higher_is_better: bool = True, chance: float = 0.0) -> SeedNoise:
    """The noise of scores [seeds, checkpoints, items] (or [seeds, items]) of one task.

    Raises `ValueError` for fewer than two seeds.
    """
    s = np.asarray(scores, dtype=np.float64)
    s = s[:, None] if s.ndim == 2 else s
    if len(s) < 2:
        raise ValueError("the noise of seeds needs at least two of them")
    last = s[:, -1]
    means = last.mean(1)
    sigma = float(means.std(ddof=1))
    each = [resampling.mean(row) for row in last]
    low, high = (float(np.mean([getattr(one, end) for one in each])) for end in ("low", "high"))
    turn = 1.0 if higher_is_better else -1.0
    return SeedNoise(
        mean=float(means.mean()),
        sigma=sigma,
        snr=abs(float(means.mean()) - chance) / sigma if sigma else float("inf"),
        interval=Interval(float(means.mean()), low, high),
        monotonicity=None if s.shape[1] < 2 else float(np.mean([_rising(turn * run.mean(1)) for run in s])),
        difficulty=last.mean(0),
        discrimination=discrimination(last),
        seeds=len(s),
    )


def _rising(scores: Values) -> float:
    tau = stats.kendalltau(np.arange(len(scores)), scores).statistic
    return 0.0 if np.isnan(tau) else float(tau)


def discrimination(items: Values) -> Values:
    """The correlation over takers [takers, items] of each item with the sum of the others [items], 0 where undefined.

    For items of 0 and 1 it is the point-biserial correlation with the rest score.
    """
    rest = items.sum(1, keepdims=True) - items
    a, b = items - items.mean(0), rest - rest.mean(0)
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), scale, out=np.zeros(items.shape[1]), where=scale > 1e-12)
