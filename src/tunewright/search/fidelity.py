"""Short runs and long ones by what they teach for what they cost (arXiv 1807.02811, card 246)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from tunewright.errors import BadInput
from tunewright.search.acquisition import SHOWN, Floats, Process, fitted, knowledge_gradient, maximised
from tunewright.search.space import Space, at, place_of

SHARES = (1 / 9, 1 / 3, 1.0)
"""Shares of the full length that runs may have."""


class FidelityGradient:
    """Proposes settings and lengths that together cost at most `trials` full runs; the same seed, the same proposals.

    A Gaussian process over setting x and length s, which stands at 1 + ln(s) / ln(9), tells what a run of any length teaches about
    full ones. After 2 (d + 1) points of a Halton sequence, with the lengths 1/9, 1/3, 1 in turn, each proposal has the
    largest knowledge per cost,

        KG(x, s) / s,  KG(x, s) = E[max_x' mu_{n+1}(x', 1) | run (x, s)] - max_x' mu_n(x', 1),

    x' among the settings tried and 64 others, a run costing its share s. While the setting with the largest mu(x, 1) has
    no full run yet, one is kept back for it. A value of None says that the trial failed; it counts
    as the worst value seen.

    When to use: dear trials of few numbers, where a short run may tell of a long one; how much it tells is learned. When
    not: many cheap trials. Raises `BadInput` where `trials` do not pay for the start and a full run.
    """

    def __init__(self, space: Space, trials: int, seed: int = 0, higher: bool = True) -> None:
        self.space, self.higher, self.seed = dict(space), higher, seed
        count = 2 * (len(self.space) + 1)
        places = qmc.Halton(len(self.space), seed=seed).random(count).tolist()
        self._start = [(at(self.space, place), SHARES[k % len(SHARES)]) for k, place in enumerate(places)]
        fewest = math.ceil(sum(share for _, share in self._start) + 1)
        if trials < fewest:
            raise BadInput("too few for a start", field="trials", found=trials, expected=f"at least {fewest}")
        self._left = float(trials)
        self._tried: list[tuple[dict[str, Any], float, float]] = []
        self._open: tuple[dict[str, Any], float] | None = None

    @property
    def share(self) -> float:
        """The share of the full length at which the setting last asked for is to be run."""
        return self._open[1] if self._open else 1.0

    def ask(self) -> list[dict[str, Any]]:
        """The next setting; none when all is spent. It is told before the next."""
        done = len(self._tried)
        self._open = self._start[done] if done < len(self._start) else self._next()
        if self._open is None:
            return []
        self._left -= self._open[1]
        return [self._open[0]]

    def tell(self, values: Sequence[float | None], costs: Sequence[Mapping[str, float]] = ()) -> None:
        """The value of the setting last asked for."""
        for value in values:
            assert self._open is not None
            known = math.nan if value is None or not math.isfinite(value) else value if self.higher else -value
            self._tried.append((*self._open, known))

    def means(self) -> list[float]:
        """The posterior mean of a full run of every setting tried, in their order, in units of its own."""
        process, _ = self._process()
        return process.posterior(self._full(process))[0].tolist()

    def _next(self) -> tuple[dict[str, Any], float] | None:
        process, seed = self._process()
        best = self._tried[int(np.argmax(process.posterior(self._full(process))[0]))][0]
        owed = 0.0 if any(setting == best and share == 1.0 for setting, share, _ in self._tried) else 1.0
        affordable = [share for share in SHARES if share <= self._left - owed + 1e-9]
        if not affordable:
            return (best, 1.0) if owed and self._left >= 1 - 1e-9 else None
        d = len(self.space)
        others = qmc.Sobol(d, seed=seed).random(SHOWN)
        among = np.vstack([self._full(process), np.hstack([others, np.ones((SHOWN, 1))])])
        chosen = max((best_at(process, among, share, seed) for share in affordable), key=lambda one: one[1])
        return at(self.space, chosen[0].tolist()), chosen[2]

    def _process(self) -> tuple[Process, int]:
        points = np.array([[*place_of(self.space, setting), coordinate(share)] for setting, share, _ in self._tried])
        values = np.array([value for *_, value in self._tried])
        values = np.where(np.isnan(values), np.nanmin(values) if np.isfinite(values).any() else 0.0, values)
        seed = self.seed + len(self._tried)
        return fitted(points, values, seed), seed

    def _full(self, process: Process) -> Floats:
        """The settings tried, as full runs."""
        return np.hstack([process.points[:, :-1], np.ones((len(process.points), 1))])


def coordinate(share: float) -> float:
    """Where a share stands in [0, 1]: the shortest at 0, a full run at 1, equal factors equally far apart."""
    return 1 + math.log(share) / -math.log(SHARES[0])


def best_at(process: Process, among: Floats, share: float, seed: int) -> tuple[Floats, float, float]:
    """The setting [d] that teaches most for its cost at this share, how much that is, and the share."""
    gain = lambda x: knowledge_gradient(process, np.append(x, coordinate(share)), among) / share
    found = maximised(gain, process.points.shape[1] - 1, seed)
    return found, gain(found), share
