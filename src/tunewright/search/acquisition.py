"""Where to evaluate next: a Gaussian process and what an evaluation is expected to gain (arXiv 1807.02811; card 246).

Everything is for maximising. Points float64 [n, d] lie in the unit cube.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.stats import norm, qmc

Floats = NDArray[np.float64]

JITTER = 1e-10
"""Added to the variances of known points, so that their covariance can be inverted."""

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

    def posterior(self, at: Floats) -> tuple[Floats, Floats]:
        """Mean [m] and covariance [m, m] of the function, without noise, at points [m, d]."""
        across = self.covariance(self.points, at)
        solved = cho_solve(self._factor, across)
        return self.mean + solved.T @ (self.values - self.mean), self.covariance(at, at) - across.T @ solved


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
    total = 0.0
    for (a, b), left, right in zip(lines, crossings, [*crossings[1:], np.inf], strict=True):
        total += a * (norm.cdf(right) - norm.cdf(left)) + b * (norm.pdf(left) - norm.pdf(right))
    return float(total)


def noisy_improvement(process: Process, at: Floats) -> float:
    """The expected rise of the largest posterior mean over the points evaluated, after an evaluation at `at` [d].

    EI_n(x) = E[max_{i <= n+1} mu_{n+1}(x_i) - max_{i <= n} mu_n(x_i) | x_{n+1} = x]; without noise the usual expected
    improvement.
    """
    return _rise(process, np.vstack([process.points, at]), at, len(process.points))


def knowledge_gradient(process: Process, at: Floats, among: Floats) -> float:
    """The expected rise of the largest posterior mean over the points `among` [k, d], after an evaluation at `at` [d]."""
    return _rise(process, among, at, len(among))


def _rise(process: Process, among: Floats, at: Floats, before: int) -> float:
    """E[max over `among` of the next mean] minus the present maximum over its first `before` points."""
    mean, covariance = process.posterior(np.vstack([among, at]))
    variance = covariance[-1, -1] + process.noise
    slopes = covariance[:-1, -1] / np.sqrt(variance) if variance > JITTER else np.zeros(len(among))
    return expected_maximum(mean[:-1], slopes) - float(mean[:before].max())


def proposed(process: Process, acquisition: str, seed: int) -> Floats:
    """The point [d] of the unit cube with the largest acquisition found: `noisy_ei` or `kg`."""
    d, random = process.points.shape[1], np.random.default_rng(seed)
    shown = np.vstack([process.points, qmc.Sobol(d, seed=seed).random(SHOWN)])

    def gain(at: Floats) -> float:
        return noisy_improvement(process, at) if acquisition == "noisy_ei" else knowledge_gradient(process, at, shown)

    drawn = random.random((CANDIDATES, d))
    starts = sorted(drawn, key=gain, reverse=True)[:RESTARTS]
    climbed: Callable[[Floats], Floats] = lambda at: (
        minimize(lambda x: -gain(x), at, method="L-BFGS-B", bounds=[(0.0, 1.0)] * d, options={"maxiter": 20}).x
    )
    return max((climbed(start) for start in starts), key=gain)
