"""Choosing each arm's hyperparameters before it is judged: equal cost for all arms, seeds and rows of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from tunewright.comparison.arms import Tuning
from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, Result, score_of
from tunewright.comparison.outcome import Tuned
from tunewright.comparison.pruning import Bar, bar_of
from tunewright.errors import BadInput
from tunewright.search.dehb import ETA, Evolution
from tunewright.search.fidelity import FidelityGradient
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


@dataclass(frozen=True)
class Tried:
    """What a setting gave: its `score` (None where training failed or was stopped), the `share` of a full run that it
    took, its median `costs`, and the `forecast` of its score where it was stopped for its learning curve."""

    values: Values
    score: float | None
    share: float = 1.0
    costs: Mapping[str, float] = field(default_factory=dict)
    forecast: float | None = None

    @staticmethod
    def of(values: Values, results: Sequence[Result], share: float, measure: str) -> Tried:
        """The results of all seeds together; a setting is stopped where one of its seeds was."""
        spent = {name: [result.cost.get(name) for result in results] for name in results[0].cost or {}}
        known = {name: [one for one in each if one is not None] for name, each in spent.items()}
        costs = {name: float(np.median(each)) for name, each in known.items() if len(each) == len(results)}
        score = mean_score(results, measure)
        if not any(result.stopped for result in results):
            return Tried(values, score, share, costs)
        taken = [one.stopped["share"] if one.stopped else 1.0 for one in results]
        ends = [one.stopped["forecast"] if one.stopped else mean_score([one], measure) for one in results]
        forecast = None if None in ends else float(np.mean(np.asarray(ends, dtype=np.float64)))
        return Tried(values, None, share * float(np.mean(taken)), costs, forecast)


@dataclass
class Search:
    """One arm's search as it goes on; no full run that passes one of `limits` is chosen."""

    name: str
    space: Space
    ask: Ask
    proposals: Proposals | Evolution | FidelityGradient
    higher: bool
    limits: Mapping[str, float] = field(default_factory=dict)
    pruned: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    cost: float = 0.0
    last: list[tuple[Values, float]] = field(default_factory=list)
    bars: dict[int, Bar] = field(default_factory=dict)

    def job(self, values: Values, seed: int, share: float) -> Job:
        """A setting's trial; a pruned one is measured on its way, against what the best one promised with this seed."""
        made = self.ask(values, seed, share)
        return replace(made, every=None, bar=self.bars.get(seed, ())) if self.pruned else made

    def note(self, tried: Sequence[Tried], share: float, seeds: int) -> None:
        """Remembers what settings of a round gave, with the incumbent after each."""
        self.last = [] if not self.history or self.history[-1]["round"] != share else self.last
        for one in tried:
            over = [name for name, most in self.limits.items() if one.share == 1.0 and one.costs.get(name, 0.0) > most]
            entry: dict[str, Any] = {"values": one.values, "score": one.score, "share": one.share, "round": share}
            if one.forecast is not None:
                entry["forecast"] = one.forecast
            if over:
                entry["over"] = over
            self.history.append(entry)
            scores = [each["score"] for each in self._full()]
            entry["incumbent"] = (max if self.higher else min)(scores) if scores else None
            self.last += [(one.values, one.score)] if one.score is not None else []
            self.cost += one.share * seeds

    def watch(self, tried: Sequence[Tried], results: Sequence[Mapping[int, Result]], measure: str) -> None:
        """Takes the curves of the best setting so far, where it is among these, as what others must promise."""
        for one, by_seed in zip(tried, results, strict=True):
            if one.score is not None and one.score == self.history[-1]["incumbent"]:
                self.bars = {
                    seed: bar_of(each.course, about)
                    for seed, each in by_seed.items()
                    if (about := score_of(each, measure)) is not None
                }

    def best(self, count: int) -> list[Values]:
        """The best settings of the last round, best first; of equal ones the earlier."""
        order = sorted(range(len(self.last)), key=lambda k: (-1 if self.higher else 1) * self.last[k][1])
        return [self.last[k][0] for k in order[:count]]

    def found(self) -> Tuned:
        """The choice: of all full runs within the limits the best, by the posterior mean where a process models each
        setting tried. Raises `BadInput` where there is none."""
        full = self._full()
        if not full:
            beyond = " within its limits" if any(one.get("over") for one in self.history) else ""
            hint = (
                "Raise the limits, or widen the space." if beyond else "Narrow the space, or lower the learning rate."
            )
            raise BadInput(f"no setting of '{self.name}' could be trained{beyond}", field="tune", hint=hint)
        turn = 1 if self.higher else -1
        means = None if isinstance(self.proposals, Evolution) else self.proposals.means()
        if means is not None and len(means) == len(self.history):
            level = {id(one): mean for one, mean in zip(self.history, means, strict=True)}
            best = max(full, key=lambda one: level[id(one)])
        else:
            best = max(full, key=lambda one: turn * one["score"])
        edge = at_edge(self.space, best["values"])
        return Tuned(best["values"], best["score"], tuple(self.history), self.cost, edge, self.space)

    def _full(self) -> list[dict[str, Any]]:
        """Full runs that gave a score within the limits."""
        return [one for one in self.history if one["share"] == 1.0 and one["score"] is not None and not one.get("over")]


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
        Search(
            name, space, ask, _proposals(space, tuning, rounds[0], higher), higher, tuning.limits or {},
            tuning.pruner is not None,
        )
        for name, (space, ask) in arms.items()
    ]  # fmt: skip
    while any(batches := [search.proposals.ask() for search in searches]):
        shares = [search.proposals.share for search in searches]
        for search, each in zip(searches, _tried(searches, batches, shares, seeds, measure, crew), strict=True):
            told = [one.score if one.forecast is None else one.forecast for one in each]
            search.proposals.tell(told, [one.costs for one in each])
    for rung in rounds[1:]:
        kept = [search.best(rung.settings) for search in searches]
        for start in range(0, rung.settings, BATCH):
            batches = [[dict(values) for values in one[start : start + BATCH]] for one in kept]
            _tried(searches, batches, [rung.share] * len(searches), seeds, measure, crew)
    return {search.name: search.found() for search in searches}


def _proposals(space: Space, tuning: Tuning, first: Rung, higher: bool) -> Proposals | Evolution | FidelityGradient:
    if tuning.sampler == "dehb":
        return Evolution(space, tuning.trials, tuning.halving or ETA, tuning.seed, higher)
    if tuning.sampler == "fidelity_kg":
        return FidelityGradient(space, tuning.trials, tuning.seed, higher)
    return Proposals(
        space, first.settings, cast(Sampler, tuning.sampler), tuning.seed, higher, first.share, tuning.together,
        tuning.limits,
    )  # fmt: skip


def _tried(
    searches: Sequence[Search],
    batches: Sequence[Sequence[Values]],
    shares: Sequence[float],
    seeds: Sequence[int],
    measure: str,
    crew: Crew,
) -> list[list[Tried]]:
    """What every search's settings gave, noted in it."""
    jobs = [
        search.job(values, seed, share)
        for search, batch, share in zip(searches, batches, shares, strict=True)
        for values in batch
        for seed in seeds
    ]
    results = iter(crew.results(jobs))
    made: list[list[Tried]] = []
    for search, batch, share in zip(searches, batches, shares, strict=True):
        by_seed = [{seed: next(results) for seed in seeds} for _ in batch]
        tried = [Tried.of(v, list(each.values()), share, measure) for v, each in zip(batch, by_seed, strict=True)]
        search.note(tried, share, len(seeds))
        if search.pruned:
            search.watch(tried, by_seed, measure)
        made.append(tried)
    return made


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
