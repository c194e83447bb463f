"""Where to evaluate next: a Gaussian process and what an evaluation is expected to gain (arXiv 1807.02811; card 246).

Everything is for maximising. Points float64 [n, d] lie in the unit cube.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import ndtr
from scipy.stats import norm, qmc

Floats = NDArray[np.float64]

JITTER = 1e-10
"""Added to the variances of known points, so that their covariance can be inverted."""

NOTHING = 1e-9
"""Gains below this are none, in deviations of the values."""

CANDIDATES, RESTARTS, SHOWN = 256, 10, 64
"""Random points tried, the best of them that are climbed from, and points over which knowledge is counted."""


@dataclass(frozen=True)
class Process:
    """A Gaussian process with a Matern-5/2 kernel, constant mean and equal noise, given values [n] at points [n, d].

    k(x, x') = amplitude (1 + r + r^2 / 3) exp(-r), r^2 = 5 sum_i ((x_i - x'_i) / lengths_i)^2; `noise` is a variance.
    """

    points: Floats
    values: Floats
    lengths: Floats
    amplitude: float = 1.0
    mean: float = 0.0
    noise: float = 0.0

    def covariance(self, one: Floats, other: Floats) -> Floats:
        """k between points [n, d] and [m, d]: [n, m]."""
        apart = (one[:, None] - other[None]) / self.lengths
        r = np.sqrt(5 * (apart**2).sum(-1))
        return np.asarray(self.amplitude * (1 + r + r**2 / 3) * np.exp(-r))

    @cached_property
    def _factor(self) -> tuple[Floats, bool]:
        known = self.covariance(self.points, self.points)
        factor: tuple[Floats, bool] = cho_factor(known + (self.noise + JITTER) * np.eye(len(known)), lower=True)
        return factor

    @cached_property
    def _weights(self) -> Floats:
        weights: Floats = cho_solve(self._factor, self.values - self.mean)
        return weights

    def posterior(self, at: Floats) -> tuple[Floats, Floats]:
        """Mean [m] and covariance [m, m] of the function, without noise, at points [m, d]."""
        across = self.covariance(self.points, at)
        solved = cho_solve(self._factor, across)
        return self.mean + solved.T @ (self.values - self.mean), self.covariance(at, at) - across.T @ solved

    def beside(self, among: Floats, at: Floats) -> tuple[Floats, Floats]:
        """Mean [m] at points [m, d], and their covariance [m] with the point `at` [d]."""
        known = self.covariance(among, self.points)
        solved = cho_solve(self._factor, self.covariance(self.points, at[None])[:, 0])
        return self.mean + known @ self._weights, self.covariance(among, at[None])[:, 0] - known @ solved

    def told(self, at: Floats, value: float) -> Process:
        """The process given one more value, at `at` [d]."""
        return replace(self, points=np.vstack([self.points, at]), values=np.append(self.values, value))


def fitted(points: Floats, values: Floats, seed: int) -> Process:
    """The process of largest marginal likelihood for values that are standardised here (several restarts)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    spread = values.std()
    scaled = (values - values.mean()) / (spread if spread > 0 else 1.0)
    lengths = np.full(points.shape[1], 0.5)
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(lengths, (5e-2, 1e1), nu=2.5) + WhiteKernel(1e-2, (1e-6, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = GaussianProcessRegressor(kernel, n_restarts_optimizer=3, random_state=seed).fit(points, scaled).kernel_
    shape = found.k1
    return Process(
        points, scaled, np.atleast_1d(shape.k2.length_scale), shape.k1.constant_value, 0.0, found.k2.noise_level
    )


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """E[(f - best)^+] of f ~ N(mean, deviation^2): D^+ + s phi(D / s) - |D| Phi(-|D| / s), D = mean - best."""
    gain = np.asarray(mean, dtype=np.float64) - best
    s = np.asarray(deviation, dtype=np.float64)
    z = np.divide(gain, s, out=np.full_like(gain, -np.inf), where=s > 0)
    return np.asarray(np.maximum(gain, 0) + s * norm.pdf(z) - np.abs(gain) * norm.cdf(-np.abs(z)))


def expected_maximum(heights: Floats, slopes: Floats) -> float:
    """E[max_i heights_i + slopes_i Z] of Z ~ N(0, 1), exactly, over the lines [k] that are highest somewhere."""
    order = np.lexsort((heights, slopes))
    lines: list[tuple[float, float]] = []  # height and slope of the lines of the upper envelope, from left to right
    crossings = [-np.inf]
    for a, b in zip(heights[order].tolist(), slopes[order].tolist(), strict=True):
        while lines:
            height, slope = lines[-1]
            if b - slope <= 1e-12:  # of equal slopes the last is the highest
                begins = -np.inf
            else:
                begins = (height - a) / (b - slope)
            if begins > crossings[-1]:
                break
            lines.pop()
            crossings.pop()
        crossings.append(begins if lines else -np.inf)
        lines.append((a, b))
        if len(crossings) > len(lines):
            crossings.pop(0)
    a, b = np.array(lines).T
    below, above = np.array(crossings), np.array([*crossings[1:], np.inf])
    density = lambda z: np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float((a * (ndtr(above) - ndtr(below)) + b * (density(below) - density(above))).sum())


def noisy_improvement(process: Process, at: Floats, allowed: NDArray[np.bool_] | None = None) -> float:
    """The expected rise of the largest posterior mean over the points evaluated, after an evaluation at `at` [d].

    EI_n(x) = E[max_{i <= n+1} mu_{n+1}(x_i) - max_{i <= n} mu_n(x_i) | x_{n+1} = x]; without noise the usual expected
    improvement. Of the points evaluated only the `allowed` [n] count, one at least.
    """
    known = process.points if allowed is None else process.points[allowed]
    return _rise(process, np.vstack([known, at]), at, len(known))


def knowledge_gradient(process: Process, at: Floats, among: Floats) -> float:
    """The expected rise of the largest posterior mean over the points `among` [k, d], after an evaluation at `at` [d]."""
    return _rise(process, among, at, len(among))


def _rise(process: Process, among: Floats, at: Floats, before: int) -> float:
    """E[max over `among` of the next mean] minus the present maximum over its first `before` points."""
    mean, covariance = process.beside(np.vstack([among, at]), at)
    variance = covariance[-1] + process.noise
    slopes = covariance[:-1] / np.sqrt(variance) if variance > JITTER else np.zeros(len(among))
    return expected_maximum(mean[:-1], slopes) - float(mean[:before].max())


class Limit(NamedTuple):
    """A cost and the most of it that is allowed, as a process of the cost over the settings."""

    process: Process
    most: float

    def kept(self, at: Floats) -> float:
        """P(cost at `at` [d] <= most)."""
        mean, covariance = self.process.posterior(at[None])
        return float(norm.cdf((self.most - mean[0]) / np.sqrt(max(covariance[0, 0], JITTER))))


def limited(points: Floats, costs: Floats, most: float, seed: int) -> Limit:
    """The limit of a cost [n] known at points [n, d]."""
    return Limit(fitted(points, costs, seed), float((most - costs.mean()) / (costs.std() or 1.0)))


def proposed(
    process: Process, acquisition: str, seed: int, limits: Sequence[Limit] = (),
    allowed: NDArray[np.bool_] | None = None,
) -> Floats:  # fmt: skip
    """The point [d] of the unit cube with the largest acquisition found: `noisy_ei` or `kg`.

    Under `limits`, improvement over the `allowed` points is multiplied by the probability that every limit is kept;
    while no point is allowed, that probability alone counts.
    """
    d = process.points.shape[1]
    shown = np.vstack([process.points, qmc.Sobol(d, seed=seed).random(SHOWN)])

    def gain(at: Floats) -> float:
        if acquisition == "kg":
            return knowledge_gradient(process, at, shown)
        better = noisy_improvement(process, at, allowed) if allowed is None or allowed.any() else 1.0
        # Where nothing is left to gain, rounding must not lead beyond the limits.
        return max(better, NOTHING) * math.prod(limit.kept(at) for limit in limits) if limits else better

    return maximised(gain, d, seed)


def maximised(gain: Callable[[Floats], float], d: int, seed: int) -> Floats:
    """The point [d] of the unit cube with the largest gain found: random points, the best of them climbed from."""
    drawn = np.random.default_rng(seed).random((CANDIDATES, d))
    starts = sorted(drawn, key=gain, reverse=True)[:RESTARTS]
    climbed: Callable[[Floats], Floats] = lambda at: (
        minimize(lambda x: -gain(x), at, method="L-BFGS-B", bounds=[(0.0, 1.0)] * d, options={"maxiter": 20}).x
    )
    return max((climbed(start) for start in starts), key=gain)
