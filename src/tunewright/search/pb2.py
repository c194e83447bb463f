"""Population-based bandits: population-based training that learns which settings pay (arXiv 2002.02518; card 34)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from tunewright.search.pbt import PopulationBasedTraining, Values
from tunewright.search.space import Choice, Space

Floats = NDArray[np.float64]

CANDIDATES = 2048
"""Settings drawn at random, of which the best by the bound is taken."""

LENGTHS, FORGOTTEN, NOISES = (0.1, 0.2, 0.4, 0.8), (0.0, 0.2, 0.5), (0.01, 0.1, 0.5)
"""What a process may be like, the likeliest is taken: its length, what it forgets in an interval, variance of noise."""

WORST = -2.0
"""The gain of a member that failed, and the least of any, in deviations from the mean of its interval; the most is 2."""


class PopulationBasedBandits(PopulationBasedTraining):
    """Population-based training whose copies take the settings with the largest upper confidence bound on the gain.

    Of every member and interval t the gain in score is observed, as deviations from the interval's mean. A Gaussian
    process of (t, settings) with k = (1 - e)^(|t - t'| / 2) exp(-|x - x'|^2 / (2 l^2)), so that old gains count less,
    gives mean and deviation of the next interval's gain. A copy takes x with the largest
    mean(x) + sqrt(b) deviation(x), b = 0.2 log(0.4 n) for n observations, 0 at least; the deviation also knows of the
    settings that the other members go on with, which keeps copies apart. Numbers enter by their place in their range, a
    choice as a vector of which two differ by 1.

    The paper standardises all gains together; here within an interval, since early intervals gain most whatever the
    setting. e, l and the noise are the likeliest of a few values.

    When to use: populations of some 4 to 16, too few for random changes. When not: for more than a handful of keys.
    """

    def __init__(self, space: Space, members: int, intervals: int = 4, seed: int = 0, higher: bool = True) -> None:
        super().__init__(space, members, intervals, seed, higher)
        self._observed: list[tuple[float, Values, float]] = []

    def tell(self, values: Sequence[float | None]) -> None:
        # What all members begin with is one number, which the mean of the first gains takes away.
        before = [one.loss if math.isfinite(one.loss) else 0.0 for one in self.members]
        super().tell(values)
        gains = standardised(np.asarray(before) - [one.loss for one in self.members])
        self._observed += [
            (float(self.interval), one.schedule[-1], float(gain)) for one, gain in zip(self.members, gains, strict=True)
        ]

    def explored(self, values: Values, others: Sequence[Values]) -> Values:
        times, settings, gains = zip(*self._observed, strict=True)
        known = np.column_stack([times, self._features(settings)])
        now = self.interval + 1.0
        going = np.column_stack([np.full(len(others), now), self._features(others)])
        drawn = self.random.random((CANDIDATES, len(self.space)))
        candidates = [
            {key: axis.at(float(u)) for (key, axis), u in zip(self.space.items(), row, strict=True)} for row in drawn
        ]
        asked = np.column_stack([np.full(CANDIDATES, now), self._features(candidates)])
        return candidates[int(np.argmax(bound(known, np.asarray(gains), going, asked)))]

    def _features(self, settings: Sequence[Values]) -> Floats:
        """Settings as points float64 [settings, features]."""
        columns: list[Floats] = [np.empty((len(settings), 0))]
        for key, axis in self.space.items():
            if isinstance(axis, Choice):
                chosen = [axis.values.index(one[key]) for one in settings]
                columns.append(np.eye(len(axis.values))[chosen] / math.sqrt(2))
            else:
                columns.append(np.asarray([[axis.place(one[key])] for one in settings]).reshape(-1, 1))
        return np.concatenate(columns, axis=1)


def standardised(gains: Floats) -> Floats:
    """Gains [members] of an interval in deviations from their mean, within 2; what is not finite counts as -2."""
    known = gains[np.isfinite(gains)]
    spread = float(known.std()) if len(known) else 0.0
    made = (gains - known.mean()) / spread if spread > 0 else np.where(np.isfinite(gains), 0.0, -np.inf)
    return np.asarray(np.clip(made, WORST, -WORST))


def bound(known: Floats, gains: Floats, going: Floats, asked: Floats) -> Floats:
    """The upper confidence bound [asked] of the gain at points (time, features), from gains at `known` points; at
    `going` ones gains will be known."""
    fitted = [
        GaussianProcessRegressor(Fading(length, forgotten), alpha=noise, optimizer=None).fit(known, gains)
        for length, forgotten, noise in product(LENGTHS, FORGOTTEN, NOISES)
    ]
    process = max(fitted, key=lambda one: one.log_marginal_likelihood_value_)
    # The deviation depends on where gains are known, not on what they are.
    points = np.concatenate([known, going])
    later = GaussianProcessRegressor(process.kernel, alpha=process.alpha, optimizer=None).fit(
        points, np.zeros(len(points))
    )
    _, deviation = later.predict(asked, return_std=True)
    weight = math.sqrt(max(0.0, 0.2 * math.log(0.4 * len(known))))
    return np.asarray(process.predict(asked) + weight * deviation)


class Fading(Kernel):
    """(1 - forgotten)^(|t - t'| / 2) exp(-|x - x'|^2 / (2 length^2)) of points whose first column is the time t."""

    def __init__(self, length: float, forgotten: float) -> None:
        self.length, self.forgotten = length, forgotten

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Any:
        other = X if Y is None else Y
        apart = cdist(X[:, :1], other[:, :1], "cityblock")
        near = np.exp(-cdist(X[:, 1:], other[:, 1:], "sqeuclidean") / (2 * self.length**2))
        return (1 - self.forgotten) ** (apart / 2) * near

    def diag(self, X: Floats) -> Floats:
        """k of every point with itself: 1."""
        return np.ones(len(X))

    def is_stationary(self) -> bool:
        """It depends on differences alone."""
        return True
