"""What a comparison trains beside tuning and judging: landscapes, targets and studies of time, the usual protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tunewright.comparison.arms import Landscape, Target
from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, Result, score_of
from tunewright.comparison.outcome import Conventional, Swept, Times, Tuned
from tunewright.comparison.tuning import Ask, Values, mean_score
from tunewright.errors import Fault
from tunewright.search.proposals import Proposals
from tunewright.search.space import Space

FIRST_REPEAT = 1 << 29
"""Seeds of the runs that set a target begin here: between those that judge and those that tune."""

Judge = Callable[[str, int, Values, Sequence[Values]], Job]
"""Makes the judging trial of an arm, a seed and changed values, or where it is not empty a schedule of them."""


def landscapes(
    arms: Mapping[str, tuple[Space, Ask, Values, Sequence[Values]]],
    asked: Landscape,
    seeds: Sequence[int],
    measure: str,
    crew: Crew,
) -> dict[str, dict[str, list[Swept]]]:
    """Arm -> key -> its values in turn, all else as the arm is judged, each with the seeds' scores on tuning rows."""
    places = [
        (name, key, value)
        for name, (space, *_) in arms.items()
        for key, axis in space.items()
        for value in axis.grid(asked.points)
    ]

    def job(name: str, key: str, value: Any, seed: int) -> Job:
        _, ask, values, schedule = arms[name]
        # What varies alone stays the same throughout; the rest of a schedule is followed.
        rest = tuple({other: each for other, each in one.items() if other != key} for one in schedule)
        return replace(ask({key: value} if rest else {**values, key: value}, seed, 1.0), phases=rest)

    jobs = [job(*place, seed) for place in places for seed in seeds]
    results = iter(crew.results(jobs))
    found: dict[str, dict[str, list[Swept]]] = {name: {key: [] for key in arms[name][0]} for name in arms}
    for name, key, value in places:
        scores = [score_of(next(results), measure) for _ in seeds]
        found[name][key].append(Swept(value, tuple(one.score if one else None for one in scores)))
    return found


def set_by(
    target: Target, chosen: Mapping[str, tuple[Values, Sequence[Values]]], judge: Judge, higher: bool, crew: Crew
) -> dict[str, float]:
    """What the target's arms reach: arm -> the median over its repeats of the best value on the way. Raises `Fault`
    where one of them cannot be trained."""
    jobs = [judge(name, FIRST_REPEAT + k, *chosen[name]) for name in target.of for k in range(target.repeats)]
    results = iter(crew.results(jobs))
    found = {}
    for name in target.of:
        each = [next(results) for _ in range(target.repeats)]
        if failed := next((one.failed for one in each if one.failed), None):
            raise Fault(f"'{name}', which is to set the target, could not be trained: {failed}")
        best = [(max if higher else min)(point["value"] for point in one.course) for one in each]
        found[name] = float(np.median(best))
    return found


def studies(
    spaces: Mapping[str, Space], trials: int, target: Target, judge: Judge, higher: bool, crew: Crew
) -> dict[str, Times]:
    """Every arm's times to the target, one per study: that of the fastest of `trials` settings, all with one seed.

    A study's settings are those of a Halton sequence of its own, at the same places of every arm's space.
    """
    count, value = target.studies or 0, float(target.value)  # type: ignore[arg-type]
    drawn = {
        name: [[judge(name, study, values, ()) for values in _halton(space, trials, study)] for study in range(count)]
        for name, space in spaces.items()
    }
    results = iter(crew.results([job for each in drawn.values() for study in each for job in study]))
    found = {}
    for name, each in drawn.items():
        rows = [np.min([first(next(results), value, higher) for _ in study], axis=0) for study in each]
        found[name] = Times(*np.stack(rows, axis=1))
    return found


def _halton(space: Space, trials: int, study: int) -> Sequence[Values]:
    proposals, found = Proposals(space, trials, "halton", study), []
    while batch := proposals.ask():
        found += batch
        proposals.tell([None] * len(batch))
    return found


def first(result: Result, value: float, higher: bool) -> tuple[float, float, float]:
    """Steps, tokens and seconds at the first evaluation that reaches the target; infinite where none does."""
    for point in result.course:
        if point["value"] >= value if higher else point["value"] <= value:
            return point["step"], point["tokens"], point["seconds"]
    return (float("inf"),) * 3


def conventional(
    tuned: Mapping[str, Tuned], seeds: Sequence[int], judge: Judge, measure: str, higher: bool, crew: Crew
) -> dict[str, Conventional]:
    """For every arm, which of its settings tried in full is the best by the judging rows and seeds themselves."""
    settings = {name: full_settings(one) for name, one in tuned.items()}
    jobs = [
        judge(name, seed, one["values"], one.get("schedule", ()))
        for name, each in settings.items()
        for one in each
        for seed in seeds
    ]
    results = iter(crew.results(jobs))
    found = {}
    for name, each in settings.items():
        scored: list[tuple[float, dict[str, Any]]] = []
        for one in each:
            score = mean_score([next(results) for _ in seeds], measure)
            if score is not None:
                scored.append((score, one["values"]))
        score, values = (max if higher else min)(scored, key=lambda one: one[0])
        found[name] = Conventional(values, score, len(scored))
    return found


def full_settings(tuned: Tuned) -> Sequence[Mapping[str, Any]]:
    """What was tried at full length, each once: entries of the history that differ in values or schedule."""
    what = lambda one: json.dumps([one["values"], one.get("schedule")], sort_keys=True)
    found: dict[str, Mapping[str, Any]] = {
        what(one): one for one in tuned.history if one["share"] == 1.0 and not one.get("over")
    }
    return list(found.values())
