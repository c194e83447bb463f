"""Population-based training: settings that change while their models train (arXiv 1711.09846; card 34)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.search.space import Choice, Range, Space

QUANTILE = 0.25
"""Share of the population that is replaced after an interval, and that it is replaced by; at least one member."""

FACTORS = (0.8, 1.2)
"""What a number is multiplied by when it is perturbed."""

TRIES = 20
"""How often settings are perturbed, at most, until no other member trains the same."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A model in training: the settings of its intervals so far, and the place in the population where each was run."""

    schedule: tuple[Values, ...] = ()
    lineage: tuple[int, ...] = ()
    loss: float = math.inf


class PopulationBasedTraining:
    """Trains a population in equal intervals; after each, the worst take over the best and change their settings.

    The first settings are random. After every interval but the last, the worst quarter of the members (one at least,
    and all that failed) each copy one of the best quarter at random, weights and optimizer state included, with the
    settings perturbed (`perturbed`), again where another member would train the same; the others go on as they are. What is found is the schedule of the member that
    ends best: the settings that its model was trained with, whoever trained it. The same seed, the same population. A
    value of None says that training failed.

    When to use: where the best setting changes as training goes on, as a learning rate's does. When not: for keys that
    shape the model or the data, which cannot change in a run; or for few members, of which copies soon look alike. It
    is greedy: what pays only later is copied over by what pays at once.
    """

    def __init__(self, space: Space, members: int, intervals: int = 4, seed: int = 0, higher: bool = True) -> None:
        self.space, self.intervals, self.higher = dict(space), intervals, higher
        self.random = np.random.default_rng(seed)
        self.members = [Member() for _ in range(members)]
        self.interval = 0

    @property
    def share(self) -> float:
        """The share of the full length that is trained when the interval last asked for ends."""
        return self.interval / self.intervals

    def ask(self) -> list[Member]:
        """The members with the settings of their next interval, in the order of their places; none at the end, or
        where every member failed. Each interval is told before the next."""
        self.members = self._next()
        self.interval += 1
        return self.members

    def tell(self, values: Sequence[float | None]) -> None:
        """The values of the members last asked for, after the interval."""
        losses = (math.inf if one is None or not math.isfinite(one) else -one if self.higher else one for one in values)
        self.members = [replace(member, loss=loss) for member, loss in zip(self.members, losses, strict=True)]

    def explored(self, values: Values, others: Sequence[Values]) -> Values:
        """The next settings of a copy of the member that was trained with `values`; `others` are those already set."""
        return perturbed(self.space, values, self.random)

    def _next(self) -> list[Member]:
        places = range(len(self.members))
        if self.interval == 0:
            drawn = self.random.random((len(self.members), len(self.space)))
            first = [
                {key: a.at(float(u)) for (key, a), u in zip(self.space.items(), row, strict=True)} for row in drawn
            ]
            return [Member((values,), (place,)) for place, values in zip(places, first, strict=True)]
        best, worst = ends([one.loss for one in self.members])
        if self.interval == self.intervals or not best:
            return []
        made = {place: extended(self.members[place], place) for place in places if place not in worst}
        for place in worst:
            copied = self.members[best[int(self.random.integers(len(best)))]]
            others = [one.schedule[-1] for one in made.values()]
            taken = [one.schedule for one in made.values()]
            start = values = copied.schedule[-1]
            for attempt in range(TRIES):
                values = self.explored(start, others)
                if (*copied.schedule, values) not in taken:
                    break
                # Where every step from here is taken, or ends at an end of the range, a second one leads further.
                start = values if attempt >= TRIES // 2 else start
            made[place] = extended(copied, place, values)
        return [made[place] for place in places]


def ends(losses: Sequence[float]) -> tuple[list[int], list[int]]:
    """The places of the best quarter of the members, which none that failed is in, and of those to replace."""
    order = np.argsort(losses, kind="stable").tolist()
    count = max(1, int(QUANTILE * len(order)))
    alive = [place for place in order if math.isfinite(losses[place])]
    best = alive[:count]
    return best, [place for place in order if place in order[-count:] or place not in alive]


def extended(member: Member, place: int, values: Values | None = None) -> Member:
    """The member with one more interval, at `place`, with new settings or as it was."""
    following = member.schedule[-1] if values is None else values
    return Member((*member.schedule, following), (*member.lineage, place), member.loss)


def perturbed(space: Space, values: Values, random: np.random.Generator) -> dict[str, Any]:
    """Every number times 0.8 or 1.2, within its range; a whole one moves by 1 at least. Of a choice of numbers the
    next smaller or larger, of any other one drawn anew."""
    return {key: _moved(axis, values[key], random) for key, axis in space.items()}


def _moved(axis: Range | Choice, value: Any, random: np.random.Generator) -> Any:
    up = bool(random.integers(2))
    if isinstance(axis, Range):
        made = value * FACTORS[up]
        if axis.whole:
            made = round(made) if round(made) != value else value + (1 if up else -1)
        return min(max(made, axis.low), axis.high)
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in axis.values):
        ordered = sorted(axis.values)
        return ordered[min(max(ordered.index(value) + (1 if up else -1), 0), len(ordered) - 1)]
    return axis.at(float(random.random()))
