"""Is a difference more than chance: tests on paired differences, and corrections where several are tested."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tunewright.evaluate.statistics.resampling import Interval

Values = NDArray[np.float64]

FLIPS = 10_000
_ROUNDING = 1e-12


class Tested(NamedTuple):
    """An estimate with its interval and the probability of one at least as far from 0 where there is no difference."""

    estimate: float
    low: float
    high: float
    p: float


def paired_t(differences: Values, level: float = 0.95) -> Tested:
    """The t test of a mean of paired differences [n], one per seed: t = mean / (sd / sqrt(n)), n - 1 degrees of freedom.

    Where all differences are equal they say nothing of their spread: p is 1 for a difference of 0, else that of
    flipping signs, 2 / 2^n. Raises `ValueError` for fewer than two.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    if n < 2:
        raise ValueError("a spread needs at least two differences")
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    if sd <= _ROUNDING * max(1.0, abs(mean)):
        return Tested(mean, mean, mean, 1.0 if abs(mean) <= _ROUNDING else min(1.0, 2.0 ** (1 - n)))
    error = sd / np.sqrt(n)
    reach = stats.t.ppf((1 + level) / 2, n - 1) * error
    return Tested(mean, mean - float(reach), mean + float(reach), float(2 * stats.t.sf(abs(mean) / error, n - 1)))


def mean_over_seeds(scores: Values, level: float = 0.95) -> Interval:
    """The mean of scores [seeds] with its t interval; without interval (the mean itself) where there is one seed."""
    s = np.asarray(scores, dtype=np.float64)
    if len(s) < 2:
        return Interval(float(s.mean()), float(s.mean()), float(s.mean()))
    return Interval(*paired_t(s, level)[:3])


def sign_flip(differences: Values, flips: int = FLIPS, seed: int = 0) -> float:
    """The permutation p-value of a mean of paired differences [n] whose signs are exchangeable under no difference.

    All 2^n signs are tried where they are at most `flips`, else `flips` random ones, the observed one counted. With n
    differences p is at least 2 / 2^n: 0.25 at three seeds, so that three seeds never decide.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    observed = abs(d.sum()) * (1 - _ROUNDING)
    if 2**n <= flips:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ d) >= observed))
    rng = np.random.default_rng([seed, 0xF11B])
    step = max(1, (1 << 22) // n)
    hits = 0
    for start in range(0, flips, step):
        signs = rng.integers(0, 2, size=(min(step, flips - start), n)) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ d) >= observed))
    return (hits + 1) / (flips + 1)


def holm(p: Values) -> Values:
    """Holm's step-down corrected p-values, in the order given: the chance of one false alarm among all stays below p.

    The i-th smallest of m (from 0) becomes the largest of (m - j) p_j over j <= i, at most 1.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    made = np.empty_like(values)
    made[order] = np.minimum(stepped, 1.0)
    return made


def benjamini_hochberg(p: Values) -> Values:
    """Benjamini and Hochberg's corrected p-values, in the order given: the expected share of false ones among findings.

    The i-th smallest of m (from 1) becomes the smallest of m p_j / j over j >= i, at most 1.
    """
    values = np.asarray(p, dtype=np.float64)
    m = len(values)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * m / np.arange(1, m + 1)
    made = np.empty_like(values)
    made[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return made


def effect_size(scores: Values, reference: Values) -> float | None:
    """Cohen's d: the difference of two means over seeds in units of their pooled standard deviation; None without one.

    d = (mean(a) - mean(b)) / sqrt((var(a) + var(b)) / 2), variances with n - 1.
    """
    a, b = np.asarray(scores, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    pooled = float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)) if min(len(a), len(b)) > 1 else 0.0
    return float(a.mean() - b.mean()) / pooled if pooled > _ROUNDING else None
