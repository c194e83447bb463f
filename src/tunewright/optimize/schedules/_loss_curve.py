"""Where a short loss curve is heading: an exponential fall fitted to it and read further on (arXiv 2105.10762)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import UnivariateSpline
from scipy.optimize import minimize

Floats = NDArray[np.float64]

ROUNDS = 10
MIN_POINTS = 8
NOT_FINITE = 1e6
"""The forecast of a curve that left the finite numbers."""


def forecast(losses: Sequence[float], step: float, smooth: Literal["spline", "none"], drop: float | None) -> float:
    """The loss expected at `step` (counted like the losses, from 0), from those of the first steps.

    Fewer than 8 losses: the mean of their last third. With `smooth` spline, outliers are dropped and the fit is made
    to a smoothing spline's values. 1e6 when a loss is not finite.
    """
    values = np.asarray(losses, dtype=np.float64)
    if not np.isfinite(values).all() or not len(values):
        return NOT_FINITE
    if len(values) < MIN_POINTS:
        return float(values[-max(1, len(values) // 3) :].mean())
    at = np.arange(len(values), dtype=np.float64)
    if smooth == "spline":
        at, values = cleaned(at, values, drop)
        values = _spline(at, values)(at)
    a, b, c = fit(at, values)
    return float(a * np.exp(b * step) + c)


def cleaned(at: Floats, values: Floats, drop: float | None) -> tuple[Floats, Floats]:
    """The points left after 10 rounds, each of which takes the `drop` share farthest from a smoothing spline and
    removes those that lie in the first half of the curve; with None after one round, which takes one point."""
    half = at[-1] / 2
    for _ in range(1 if drop is None else ROUNDS):
        count = 1 if drop is None else round(drop * len(at))
        if not count or len(at) <= MIN_POINTS:
            break
        apart = np.abs(_spline(at, values)(at) - values)
        worst = np.argsort(-apart, kind="stable")[:count]
        gone = worst[at[worst] < half]
        at, values = np.delete(at, gone), np.delete(values, gone)
    return at, values


def fit(at: Floats, values: Floats) -> tuple[float, float, float]:
    """(a, b, c) of a exp(b t) + c with b < 0: simplex search over log(-b), a and c by least squares inside."""

    def solved(logb: float) -> tuple[Floats, float]:
        columns = np.stack([np.exp(-np.exp(logb) * at), np.ones(len(at))], 1)
        found = np.linalg.lstsq(columns, values, rcond=None)[0]
        return found, float(((columns @ found - values) ** 2).sum())

    start = np.log(1 / (at[-1] + 1))
    best = minimize(lambda x: solved(float(np.clip(x[0], -25, 5)))[1], [start], method="Nelder-Mead",
                    options={"xatol": 1e-10, "fatol": 1e-16, "maxiter": 2000})  # fmt: skip
    logb = float(np.clip(best.x[0], -25, 5))
    (a, c), _ = solved(logb)
    return float(a), -float(np.exp(logb)), float(c)


def _spline(at: Floats, values: Floats) -> UnivariateSpline:
    return UnivariateSpline(at, values, k=2, s=len(at))
