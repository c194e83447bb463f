"""Successive halving: many settings for a short time, the best of them longer."""

from __future__ import annotations

from typing import NamedTuple

ROUNDS = 3


class Rung(NamedTuple):
    """A round in which `settings` are run for `share` of the full length."""

    settings: int
    share: float


def rungs(trials: int, factor: int) -> list[Rung]:
    """Three rounds of successive halving that together cost at most as much as `trials` full runs.

    Every round costs a third of them, keeps one of `factor` settings, and runs those `factor` times as long, the last
    one in full. With fewer than three trials the first round alone is left: `trials` full runs.
    """
    rounds = ROUNDS if trials >= ROUNDS else 1
    first = trials * factor ** (rounds - 1) // rounds
    return [Rung(first // factor**k, factor ** (k + 1.0 - rounds)) for k in range(rounds)]
