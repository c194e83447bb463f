"""The range of a score over prompt formats, whole or found by a bandit under a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Outcomes = NDArray[np.float64]
Evaluate = Callable[[int, NDArray[np.int64]], Outcomes]
"""(format, items [k]) -> 1.0 or 0.0 for each item [k]."""

Pick = Literal["empirical", "posterior_mean"]


class Extremes(NamedTuple):
    """The formats with the best and the worst score, and the item evaluations that finding them took."""

    best: int
    worst: int
    used: int


def prior(accuracy: float, strength: float = 5.0) -> tuple[float, float]:
    """Beta(a, b) with b = `strength` and a = max(1.1, b mu / (1 - mu)), mu the accuracy of the original format.

    mu is cut at 0.99.
    """
    mu = min(accuracy, 0.99)
    return max(1.1, strength * mu / (1 - mu)), strength


def thompson_extremes(
    evaluate: Evaluate,
    formats: int,
    items: int,
    accuracy: float,
    budget: int,
    batch: int = 20,
    pick: Pick = "empirical",
    seed: int = 0,
) -> Extremes:
    """Best and worst of `formats` by Thompson sampling with at most `budget` item evaluations.

    Half the budget goes to the format with the largest draw from Beta(a + hits, b + misses), half to the one with the
    smallest, `batch` items at a time in the order of the items. A format whose items are all evaluated drops out. The
    extremes are taken over the formats seen, by their rate of hits or by their posterior mean.
    """
    a, b = prior(accuracy)
    rng = np.random.default_rng([seed, 0xF0])
    hits, seen, used = np.zeros(formats), np.zeros(formats, dtype=np.int64), 0
    for sign, limit in ((1, budget // 2), (-1, budget)):
        while used < limit and (open_ := np.flatnonzero(seen < items)).size:
            draws = rng.beta(a + hits[open_], b + seen[open_] - hits[open_])
            arm = int(open_[np.argmax(sign * draws)])
            size = min(batch, items - int(seen[arm]), limit - used)
            hits[arm] += evaluate(arm, np.arange(seen[arm], seen[arm] + size)).sum()
            seen[arm] += size
            used += size
    known = np.flatnonzero(seen)
    rates = hits[known] / seen[known] if pick == "empirical" else (a + hits[known]) / (a + b + seen[known])
    return Extremes(int(known[np.argmax(rates)]), int(known[np.argmin(rates)]), used)


def uniform_extremes(outcomes: Outcomes, budget: int, seed: int = 0) -> Extremes:
    """Best and worst of `outcomes` [formats, items] when each format is seen on the same budget / formats items."""
    formats, items = outcomes.shape
    share = min(items, budget // formats)
    chosen = np.random.default_rng([seed, 0xF1]).permutation(items)[:share]
    rates = outcomes[:, chosen].mean(1)
    return Extremes(int(rates.argmax()), int(rates.argmin()), share * formats)
