"""Choosing each arm's schedule of hyperparameters before it is judged, by training populations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewright.comparison.arms import Tuning
from tunewright.comparison.crew import Crew
from tunewright.comparison.outcome import Tuned
from tunewright.comparison.tuning import Ask, at_edge, mean_score
from tunewright.errors import BadInput
from tunewright.search.pbt import PopulationBasedTraining
from tunewright.search.space import Space


def tune(
    arms: Mapping[str, tuple[Space, Ask]], tuning: Tuning, seeds: Sequence[int], measure: str, higher: bool, crew: Crew
) -> dict[str, Tuned]:
    """The schedule of every arm's member that ends best on its tuning rows, mean over the tuning seeds.

    A member is a model per seed, all with the same settings, copied together. All arms take their turns together. A
    trial goes on from where its member's last interval ended; what that left is removed as soon as no trial needs it.
    Raises `BadInput` where every member of an arm failed.
    """
    populations = {name: population(space, tuning, higher) for name, (space, _) in arms.items()}
    histories: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    while any((asked := {name: one.ask() for name, one in populations.items()}).values()):
        jobs = [
            replace(arms[name][1]({}, seed, 1.0), phases=_padded(member.schedule, tuning.intervals))
            for name, members in asked.items()
            for member in members
            for seed in seeds
        ]
        results = iter(crew.results(jobs))
        crew.forget(but=jobs)
        for name, members in asked.items():
            scores = [mean_score([next(results) for _ in seeds], measure) for _ in members]
            populations[name].tell(scores)
            histories[name] += [
                {
                    "values": dict(member.schedule[-1]), "score": score, "share": populations[name].share,
                    "schedule": [dict(one) for one in member.schedule], "lineage": list(member.lineage),
                }
                for member, score in zip(members, scores, strict=True)
            ]  # fmt: skip
    crew.forget()
    return {
        name: _found(name, histories[name], space, higher, len(seeds) / tuning.intervals)
        for name, (space, _) in arms.items()
    }


def population(space: Space, tuning: Tuning, higher: bool) -> PopulationBasedTraining:
    """The population of an arm."""
    kind = PopulationBasedTraining
    if tuning.sampler == "pb2":
        from tunewright.search.pb2 import PopulationBasedBandits as kind
    return kind(space, tuning.trials, tuning.intervals, tuning.seed, higher)


def _padded(schedule: Sequence[Mapping[str, Any]], intervals: int) -> tuple[Mapping[str, Any] | None, ...]:
    return (*schedule, *[None] * (intervals - len(schedule)))


def _found(name: str, history: Sequence[dict[str, Any]], space: Space, higher: bool, cost: float) -> Tuned:
    """The best of the members that reached the end; every interval of a member costs `cost` runs."""
    best: dict[str, Any] | None = None
    turn = 1 if higher else -1
    for entry in history:
        if entry["share"] == 1.0 and entry["score"] is not None:
            best = entry if best is None or turn * entry["score"] > turn * best["score"] else best
        entry["incumbent"] = best["score"] if best else None
    if best is None:
        hint = "Narrow the space, or lower the learning rate."
        raise BadInput(f"no member of '{name}' could be trained to the end", field="tune", hint=hint)
    return Tuned(
        best["values"], best["score"], tuple(history), cost * len(history), at_edge(space, best["values"]), space,
        tuple(best["schedule"]), tuple(best["lineage"]),
    )  # fmt: skip
