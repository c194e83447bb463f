"""Differential evolution over successive-halving brackets (arXiv 2306.01324, card 34)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import BadInput
from tunewright.search.halving import ROUNDS, Rung
from tunewright.search.space import Space

Floats = NDArray[np.float64]

ETA, MUTATION, CROSSOVER = 3, 0.5, 0.5


@dataclass
class Population:
    """The members of one share of the full length: genes [size, keys] in [0, 1] and losses, infinite before a run."""

    genes: Floats
    losses: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.losses = np.full(len(self.genes), np.inf)

    def best(self, count: int) -> Floats:
        """The genes of the members that did best, best first."""
        return self.genes[np.argsort(self.losses, kind="stable")[:count]]


class Evolution:
    """Proposes settings in brackets that together cost at most `trials` full runs; the same seed, the same proposals.

    A bracket is a successive halving with factor eta; brackets take turns to begin at a share of 1 / eta^2, 1 / eta
    and 1, with as many settings as cost about the same (eta 3: 9, 3, 1; then 5, 1; then 3). The first is random, and
    each of its rungs keeps the best of the one before. From then on every member i of a rung's population has an
    offspring: the mutant m = a + F (b - c) of three parents (rand/1/bin, F = 0.5; a gene outside [0, 1] is drawn anew),
    from which each gene is taken with probability 0.5, one at least, and the others from member i. Parents are the
    best of the next shorter share, topped up at random where these are not three; at the shortest, the population
    itself. An offspring replaces member i where its value is at least as good. What does not pay for a bracket any
    more goes to offspring of full length. A value of None says that the trial failed.

    When to use: for many short trials, where a short run tells of a long one. When not: under some 20 full runs, of
    which little is left to evolve. Raises `BadInput` where `trials` do not pay for one bracket.
    """

    def __init__(self, space: Space, trials: int, eta: int = ETA, seed: int = 0, higher: bool = True) -> None:
        if trials < ROUNDS:
            raise BadInput("too few for a bracket", field="trials", found=trials, expected=f"at least {ROUNDS}")
        self.space, self.higher = dict(space), higher
        self._random = np.random.default_rng(seed)
        self._brackets = [bracket(eta, start) for start in range(ROUNDS)]
        self._left = plan(self._brackets, trials)
        # Every share's population is as large as the widest rung that any bracket has there.
        width: dict[float, int] = {}
        for rung in (rung for one in self._brackets for rung in one):
            width[rung.share] = max(rung.settings, width.get(rung.share, 0))
        self._populations = {
            share: Population(self._random.random((size, len(self.space)))) for share, size in sorted(width.items())
        }
        self._first = ROUNDS
        self._rung, self._open = self._left[0], np.empty((0, len(self.space)))

    @property
    def share(self) -> float:
        """The share of the full length at which the settings last asked for are to be run."""
        return self._rung.share

    def ask(self) -> list[dict[str, Any]]:
        """The settings of the next rung; none when all is spent. Each rung is told before the next."""
        if not self._left:
            return []
        self._rung = self._left.pop(0)
        population, shorter = self._populations[self.share], self._shorter()
        if self._first == ROUNDS:
            self._open = population.genes.copy()
        elif self._first:
            assert shorter is not None
            self._open = shorter.best(self._rung.settings)
        else:
            pool = population.genes if shorter is None else shorter.best(self._rung.settings)
            self._open = np.stack([self._offspring(population.genes[k], pool) for k in range(self._rung.settings)])
        self._first = max(0, self._first - 1)
        return [
            {key: axis.at(float(place)) for (key, axis), place in zip(self.space.items(), genes, strict=True)}
            for genes in self._open
        ]

    def tell(self, values: Sequence[float | None], costs: Sequence[Mapping[str, float]] = ()) -> None:
        """The values of the settings last asked for, in their order."""
        population = self._populations[self.share]
        for index, (genes, value) in enumerate(zip(self._open, values, strict=True)):
            loss = math.inf if value is None or not math.isfinite(value) else -value if self.higher else value
            if loss <= population.losses[index]:
                population.genes[index], population.losses[index] = genes, loss

    def _shorter(self) -> Population | None:
        shares = list(self._populations)
        place = shares.index(self.share)
        return self._populations[shares[place - 1]] if place else None

    def _offspring(self, member: Floats, pool: Floats) -> Floats:
        if len(pool) < 3:
            everyone = np.concatenate([one.genes for one in self._populations.values()])
            pool = np.concatenate([pool, self._random.choice(everyone, 3 - len(pool), replace=False)])
        a, b, c = self._random.choice(pool, 3, replace=False)
        return crossed(member, mutant(a, b, c, self._random), self._random)


def mutant(a: Floats, b: Floats, c: Floats, random: np.random.Generator) -> Floats:
    """a + F (b - c), with genes outside [0, 1] drawn anew."""
    made = a + MUTATION * (b - c)
    return np.where((made < 0) | (made > 1), random.random(len(made)), made)


def crossed(member: Floats, other: Floats, random: np.random.Generator) -> Floats:
    """The member with each gene taken from `other` with probability 0.5, and one certainly."""
    taken = random.random(len(member)) < CROSSOVER
    taken[random.integers(len(member))] = True
    return np.where(taken, other, member)


def bracket(eta: int, start: int) -> list[Rung]:
    """The n rungs of the bracket that begins `start` rungs up: ceil(3 eta^(n-1) / n) settings, then one of eta each."""
    count = ROUNDS - start
    settings = math.ceil(ROUNDS * eta ** (count - 1) / count)
    return [Rung(settings // eta**k, float(eta) ** (k + 1 - count)) for k in range(count)]


def plan(brackets: Sequence[Sequence[Rung]], trials: float) -> list[Rung]:
    """The rungs of the brackets in turn for as long as whole ones can be paid, then one of full runs with the rest."""
    cost = lambda one: sum(rung.settings * rung.share for rung in one)
    made: list[Rung] = []
    left, turn = trials + 1e-9, 0
    while cost(brackets[turn % len(brackets)]) <= left:
        made += brackets[turn % len(brackets)]
        left -= cost(brackets[turn % len(brackets)])
        turn += 1
    widest = max(rung.settings for rung in brackets[-1])
    return made + ([Rung(min(int(left), widest), 1.0)] if left >= 1 else [])
