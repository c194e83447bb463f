"""Intervals by resampling examples. A statistic is a function of sums over examples, so one resampling serves all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 10_000
FEWEST = 10
"""With fewer examples than this no interval is taken as evidence."""

_CELLS = 1 << 22
_REPEATED = 20


class Interval(NamedTuple):
    """An estimate with its percentile interval."""

    estimate: float
    low: float
    high: float


def resampled_sums(columns: Values, resamples: int = RESAMPLES, seed: int = 0) -> Values:
    """Sums of columns [n, k] over `resamples` draws of n rows with replacement: [resamples, k].

    All columns share each draw. The draws come from a generator of their own, seeded by `seed`.
    """
    n = len(columns)
    rng = np.random.default_rng([seed, 0xB007])
    distinct, copies = np.unique(columns, axis=0, return_counts=True)
    if len(distinct) <= n // _REPEATED:
        # Drawing rows and counting equal ones is drawing the counts: the same distribution, at once.
        return rng.multinomial(n, copies / n, size=resamples) @ distinct
    sums = np.empty((resamples, columns.shape[1]))
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + (np.arange(rows) * n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums[start : start + rows] = counts @ columns
    return sums


def bootstrap(
    columns: Values,
    statistic: Callable[[Values], Values],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of a statistic of the column sums.

    `statistic` takes sums [resamples, k] and returns [resamples]; a mean is a sum over a column of ones. Raises
    `ValueError` without examples.
    """
    if not len(columns):
        raise ValueError("no examples to resample")
    columns = np.asarray(columns, dtype=np.float64)
    estimate = float(statistic(columns.sum(0, keepdims=True))[0])
    drawn = statistic(resampled_sums(columns, resamples, seed))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def mean(values: Values, weights: Values | None = None, level: float = 0.95, seed: int = 0) -> Interval:
    """Sum(w x) / Sum(w) over examples [n], both sums resampled together (a ratio estimator)."""
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    columns = np.stack([w * values, w], axis=1)
    return bootstrap(columns, lambda s: s[:, 0] / np.maximum(s[:, 1], _TINY), level, seed=seed)


def interquartile_mean(values: Values, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of the middle half of values [n] with its percentile bootstrap interval.

    floor(n / 4) values are left out at either end: of three or fewer, none. Raises `ValueError` without values.
    """
    v = np.asarray(values, dtype=np.float64)
    if not v.size:
        raise ValueError("no values to resample")
    cut = len(v) // 4
    middle = lambda rows: np.sort(rows, axis=-1)[..., cut : len(v) - cut].mean(-1)
    drawn = middle(np.random.default_rng([seed, 0x19A]).choice(v, (resamples, len(v))))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(middle(v)), float(low), float(high))


def paired_difference(
    before: Values, after: Values, weights: Values | None = None, level: float = 0.95, seed: int = 0
) -> Interval:
    """mean(after) - mean(before) over the same examples [n], with one weight per example.

    Resampling draws examples, each with both of its values.
    """
    if len(before) != len(after):
        raise ValueError(f"paired values differ in number: {len(before)} and {len(after)}")
    return mean(np.asarray(after, dtype=np.float64) - before, weights, level, seed)


def hierarchical(
    differences: Values, weights: Values | None = None, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of differences [seeds, n] over seeds and examples, both drawn anew: for other seeds and other examples.

    Each draw takes seeds with replacement and, for all of them alike, examples with replacement (weights [n]). With few
    seeds such an interval is too narrow (by sqrt((s - 1) / s) in the seeds' part): decisions take `paired_t`. Raises
    `ValueError` without seeds or examples.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or not d.size:
        raise ValueError(f"not differences by seed and example: an array of shape {d.shape}")
    seeds, n = d.shape
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    sums = resampled_sums(np.column_stack([(w * d).T, w]), resamples, seed)
    drawn = np.random.default_rng([seed, 0x5EED]).multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    means = (sums[:, :seeds] * drawn).sum(1) / seeds / np.maximum(sums[:, seeds], _TINY)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.average(d.mean(0), weights=w)), float(low), float(high))


_TINY = np.finfo(np.float64).tiny
