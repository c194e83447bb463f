"""Choosing each arm's hyperparameters before it is judged: equal cost for all arms, seeds and rows of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from tunewright.comparison.arms import Tuning
from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, Result, score_of
from tunewright.comparison.outcome import Tuned
from tunewright.errors import BadInput
from tunewright.search.dehb import ETA, Evolution
from tunewright.search.halving import Rung, rungs
from tunewright.search.proposals import BATCH, Proposals, Sampler
from tunewright.search.space import Range, Space

FIRST_SEED = 1 << 30
"""Tuning seeds begin here, judging seeds at 0: no seed is both."""

Values = Mapping[str, Any]
Ask = Callable[[Values, int, float], Job]
"""Makes the tuning trial of a setting, a seed and a share of the full length."""


def tuning_seeds(count: int, judging: Sequence[int]) -> tuple[int, ...]:
    """The seeds of tuning trials. Raises `ValueError` when one of them also judges."""
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + count))
    if set(seeds) & set(judging):
        raise ValueError("a seed cannot both tune and judge")
    return seeds


@dataclass
class Search:
    """One arm's search as it goes on."""

    name: str
    space: Space
    ask: Ask
    proposals: Proposals | Evolution
    higher: bool
    history: list[dict[str, Any]] = field(default_factory=list)
    cost: float = 0.0
    last: list[tuple[Values, float]] = field(default_factory=list)

    def note(self, settings: Sequence[Values], scores: Sequence[float | None], share: float, seeds: int) -> None:
        """Remembers what settings gave, with the incumbent after each."""
        self.last = [] if not self.history or self.history[-1]["share"] != share else self.last
        for values, score in zip(settings, scores, strict=True):
            full = [e["score"] for e in self.history if e["share"] == 1.0 and e["score"] is not None]
            full += [score] if share == 1.0 and score is not None else []
            best = (max if self.higher else min)(full) if full else None
            self.history.append({"values": values, "score": score, "share": share, "incumbent": best})
            self.last += [(values, score)] if score is not None else []
            self.cost += share * seeds

    def best(self, count: int) -> list[Values]:
        """The best settings of the last round, best first; of equal ones the earlier."""
        order = sorted(range(len(self.last)), key=lambda k: (-1 if self.higher else 1) * self.last[k][1])
        return [self.last[k][0] for k in order[:count]]

    def found(self) -> Tuned:
        """The choice: the best of all full runs. Raises `BadInput` when no setting could be trained."""
        full = [one for one in self.history if one["share"] == 1.0 and one["score"] is not None]
        if not full:
            hint = "Narrow the space, or lower the learning rate."
            raise BadInput(f"no setting of '{self.name}' could be trained", field="tune", hint=hint)
        best = (max if self.higher else min)(full, key=lambda one: one["score"])
        edge = at_edge(self.space, best["values"])
        return Tuned(best["values"], best["score"], tuple(self.history), self.cost, edge, self.space)


def tune(
    arms: Mapping[str, tuple[Space, Ask]], tuning: Tuning, seeds: Sequence[int], measure: str, higher: bool, crew: Crew
) -> dict[str, Tuned]:
    """The setting of every arm that did best on its tuning rows, mean over the tuning seeds.

    All arms take their turns together, so that processes never wait for one arm.
    """
    rounds = [Rung(tuning.trials, 1.0)]
    if tuning.halving and tuning.sampler != "dehb":
        rounds = rungs(tuning.trials, tuning.halving)
    searches = [
        Search(name, space, ask, _proposals(space, tuning, rounds[0], higher), higher)
        for name, (space, ask) in arms.items()
    ]
    while any(batches := [search.proposals.ask() for search in searches]):
        # All arms have the same number of trials, and so the same shares in the same order.
        scores = _tried(searches, batches, searches[0].proposals.share, seeds, measure, crew)
        for search, each in zip(searches, scores, strict=True):
            search.proposals.tell(each)
    for rung in rounds[1:]:
        kept = [search.best(rung.settings) for search in searches]
        for start in range(0, rung.settings, BATCH):
            _tried(searches, [one[start : start + BATCH] for one in kept], rung.share, seeds, measure, crew)
    return {search.name: search.found() for search in searches}


def _proposals(space: Space, tuning: Tuning, first: Rung, higher: bool) -> Proposals | Evolution:
    if tuning.sampler == "dehb":
        return Evolution(space, tuning.trials, tuning.halving or ETA, tuning.seed, higher)
    return Proposals(space, first.settings, cast(Sampler, tuning.sampler), tuning.seed, higher, first.share)


def _tried(
    searches: Sequence[Search],
    batches: Sequence[Sequence[Values]],
    share: float,
    seeds: Sequence[int],
    measure: str,
    crew: Crew,
) -> list[list[float | None]]:
    """The scores of every search's settings, noted in it."""
    jobs = [
        s.ask(values, seed, share)
        for s, batch in zip(searches, batches, strict=True)
        for values in batch
        for seed in seeds
    ]
    results = iter(crew.results(jobs))
    told: list[list[float | None]] = []
    for search, batch in zip(searches, batches, strict=True):
        scores = [mean_score([next(results) for _ in seeds], measure) for _ in batch]
        search.note(batch, scores, share, len(seeds))
        told.append(scores)
    return told


def mean_score(results: Sequence[Result], measure: str) -> float | None:
    """The mean over the results of a setting's seeds; None where one of them failed."""
    each = [score_of(result, measure) for result in results]
    mean = float(np.mean([one.score if one else math.nan for one in each]))
    return mean if math.isfinite(mean) else None


def at_edge(space: Space, chosen: Mapping[str, Any], margin: float = 0.02) -> tuple[str, ...]:
    """The keys whose chosen value lies at an end of its range, so that a better one may lie beyond."""
    found = []
    for key, axis in space.items():
        if isinstance(axis, Range):
            scale = math.log if axis.logarithmic else float
            low, high, value = scale(axis.low), scale(axis.high), scale(chosen[key])
            if min(value - low, high - value) <= margin * (high - low):
                found.append(key)
    return tuple(found)
