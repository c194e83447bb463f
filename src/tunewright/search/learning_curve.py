"""Forecasting a result from results on growing portions of the data (arXiv 2402.02515, card 203)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

Floats = NDArray[np.float64]

EXPONENTS = np.geomspace(0.02, 8.0, 60)
"""Values of b that a fit may start from."""


class Trend(NamedTuple):
    """A curve -a (x / scale)^-b + c with a, b > 0, and c > 0 where no score is below 0; `c` is what unlimited data would
    give."""

    a: float
    b: float
    c: float
    scale: float

    def at(self, x: float | Floats) -> Floats:
        """The value at `x` rows."""
        return np.asarray(-self.a * (np.asarray(x, dtype=np.float64) / self.scale) ** -self.b + self.c)


class Level(NamedTuple):
    """What is known after a portion of `size` rows: the trend through all portions so far.

    `forecast` says that the trend may be trusted; before that it is provisional. `gain_left` is what unlimited data
    would add to the trend's value here, `stop` that this is at most the threshold.
    """

    size: float
    trend: Trend
    forecast: bool
    gain_left: float
    stop: bool


@dataclass(frozen=True)
class LearningCurve:
    """Fits a power curve at every level and says from when it may be trusted.

    The working level is the first l whose asymptote's slope |c_(l+1) - c_l| / (x_(l+1) - x_l) stays at most
    `verticality` (per row) over the next `look_ahead` levels, so it is known that many levels later; the trend is a
    forecast from the first level on at which it is known and c_l <= `highest`. From there every later fit has one more
    observation, at infinity, of the asymptote before it, with weight `anchor` (0: none). For losses take scores -loss
    and `highest` 0.

    When to use: to decide whether more rows are worth collecting. When not: for scores that do not rise with data, or
    under five portions.
    """

    verticality: float = 0.0002
    look_ahead: int = 5
    threshold: float = 0.5
    highest: float = 100.0
    anchor: float = 1.0

    def trace(self, sizes: ArrayLike, scores: ArrayLike) -> list[Level]:
        """A level for every portion from the third on. `sizes` rise, `scores` are where up is better.

        Raises `ValueError` for fewer than three portions or sizes that do not rise.
        """
        x, y = np.asarray(sizes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if len(x) < 3 or len(x) != len(y) or (np.diff(x) <= 0).any():
            raise ValueError("a trend needs three portions or more, of rising sizes, each with a score")
        levels: list[Level] = []
        for count in range(3, len(x) + 1):
            levels.append(self.next(levels, x[:count], y[:count]))
        return levels

    def next(self, levels: Sequence[Level], x: Floats, y: Floats) -> Level:
        """The level of portions up to the last of `x`, of which `levels` are those before it."""
        trusted = bool(levels) and levels[-1].forecast
        trend = fit(x, y, levels[-1].trend.c if trusted else None, self.anchor)
        trusted = trusted or (self._working([*(one.trend.c for one in levels), trend.c], x) and trend.c <= self.highest)
        left = float(trend.c - trend.at(x[-1]))
        return Level(float(x[-1]), trend, trusted, left, trusted and left <= self.threshold)

    def _working(self, asymptotes: Sequence[float], x: Floats) -> bool:
        """Whether a working level is known after these asymptotes, the first of which is that of the third portion."""
        steps = np.diff(x[2 : 2 + len(asymptotes)])
        calm = np.abs(np.diff(asymptotes)) / steps <= self.verticality
        run = 0
        for each in calm:
            run = run + 1 if each else 0
            if run >= self.look_ahead:
                return True
        return False


def fit(x: Floats, y: Floats, anchor: float | None = None, weight: float = 1.0) -> Trend:
    """The least-squares curve through (x, y); with `anchor`, one more residual sqrt(weight) (c - anchor).

    b is scanned over a grid, with a and c solved linearly; a trust-region search goes on from the best of them.
    """
    scaled, scale = x / x[0], float(x[0])
    pull = 0.0 if anchor is None else np.sqrt(weight)

    def residuals(p: Floats) -> Floats:
        found = -p[0] * scaled ** -p[1] + p[2] - y
        return found if anchor is None else np.append(found, pull * (p[2] - anchor))

    starts = [_linear(scaled, y, b, anchor, pull) for b in EXPONENTS]
    start = min(starts, key=lambda p: float((residuals(p) ** 2).sum()))
    lowest = [1e-12, 1e-12, -np.inf if (y < 0).any() else 1e-12]
    best = least_squares(residuals, start, bounds=(lowest, np.inf), x_scale=np.maximum(np.abs(start), 1e-3), xtol=1e-14,
                         ftol=1e-14, gtol=1e-14, max_nfev=2000)  # fmt: skip
    a, b, c = (float(value) for value in best.x)
    return Trend(a, b, c, scale)


def _linear(x: Floats, y: Floats, b: float, anchor: float | None, pull: float) -> Floats:
    columns = np.stack([-(x**-b), np.ones(len(x))], axis=1)
    wanted = y
    if anchor is not None:
        columns, wanted = np.vstack([columns, [0.0, pull]]), np.append(y, pull * anchor)
    a, c = np.linalg.lstsq(columns, wanted, rcond=None)[0]
    return np.array([max(a, 1e-9), b, c if (y < 0).any() else max(c, 1e-9)])
