"""What a comparison found: per arm its scores over seeds, and per pair of arms the difference and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.comparison.arms import Budget, Tuning
from tunewright.errors import BadInput, nearest
from tunewright.evaluate import statistics
from tunewright.evaluate.base import Scores, Unit
from tunewright.evaluate.statistics import Interval
from tunewright.search.space import Space

Floats = NDArray[np.float64]

Finding = Literal["better", "worse", "no difference found", "too few seeds"]

LEVEL = 0.05
FEWEST_SEEDS = 3
"""With fewer seeds nothing is decided."""


@dataclass(frozen=True)
class Tuned:
    """How an arm's hyperparameters were chosen.

    `chosen` are the values taken, `score` theirs on the tuning rows and seeds. `history` has one entry per setting
    and length tried, in order: {"values", "score" (None where training failed), "share", "incumbent"}, the incumbent
    being the best score of a full run so far; one that was stopped for its learning curve has a "forecast" instead of a
    score, and the share of its steps that it took; "over" names the limits that a full run passed, "round" is the share it
    was meant to have. `cost` counts runs, those cut short by their share. `space` is what was
    searched. Of a population, `schedule` are the values of each of the equal intervals, the last of which are `chosen`,
    and `lineage` the member that was trained with each; the history then has an entry per member and interval, with
    the schedule and lineage up to there.
    """

    chosen: Mapping[str, Any]
    score: float
    history: tuple[Mapping[str, Any], ...]
    cost: float
    at_edge: tuple[str, ...] = ()
    space: Space = field(default_factory=dict)
    schedule: tuple[Mapping[str, Any], ...] = ()
    lineage: tuple[int, ...] = ()

    @property
    def stopped(self) -> int:
        """Settings that were stopped for their learning curve."""
        return sum("forecast" in one for one in self.history)


@dataclass(frozen=True)
class Conventional:
    """What the usual protocol would have reported: of all settings, the best by the judging rows and seeds themselves.

    `score` is the mean over seeds of the setting `chosen` so, `settings` how many could be trained there.
    """

    chosen: Mapping[str, Any]
    score: float
    settings: int


@dataclass(frozen=True)
class Swept:
    """A value of a hyperparameter that varied alone, with its score per seed on the tuning rows (None: not trained)."""

    value: Any
    scores: tuple[float | None, ...]

    def mean(self) -> Interval | None:
        """The mean over seeds with its t interval; None where a seed could not be trained."""
        found = np.asarray([one for one in self.scores if one is not None])
        return statistics.mean_over_seeds(found) if len(found) == len(self.scores) else None


@dataclass(frozen=True)
class Times:
    """When an arm reached the target, per seed: steps, tokens, seconds of training; infinite where it never did."""

    steps: Floats
    tokens: Floats
    seconds: Floats

    @property
    def reached(self) -> int:
        """Seeds that reached it."""
        return int(np.isfinite(self.steps).sum())


@dataclass(frozen=True)
class ArmOutcome:
    """An arm's results: `scores` measure -> [seeds], `values` measure -> [seeds, examples], `costs` name -> [seeds].

    Costs: `tokens`, `steps`, `seconds` of training steps, `flops`, `joules` (an estimate), `peak_memory_bytes` beyond
    interpreter and libraries, `trained_parameters`, `wall_seconds` of the whole trial but for loading. `cut` counts
    trials that the clock ended early. `studied` are the times to the target of studies, each of its fastest setting;
    `landscape` has the values of each key that varied alone.
    """

    name: str
    recipe: Mapping[str, Any]
    scores: Mapping[str, Floats]
    values: Mapping[str, Floats]
    costs: Mapping[str, Floats]
    cut: int = 0
    tuned: Tuned | None = None
    times: Times | None = None
    studied: Times | None = None
    conventional: Conventional | None = None
    landscape: Mapping[str, Sequence[Swept]] = field(default_factory=dict)

    def mean(self, measure: str) -> Interval:
        """The mean over seeds with its t interval."""
        return statistics.mean_over_seeds(self.scores[measure])

    def middle(self, measure: str) -> Interval:
        """The interquartile mean over seeds with its bootstrap interval."""
        return statistics.interquartile_mean(self.scores[measure])

    def cost(self) -> dict[str, float]:
        """Every cost, median over seeds: a worker's first trial pays for what later ones find ready."""
        return {name: float(np.median(values)) for name, values in self.costs.items()}


@dataclass(frozen=True)
class Effect:
    """An arm against the reference on one measure: `delta` = arm - reference, mean over seeds of paired differences.

    `low`, `high` and `p` are of the t test over seeds: what other seeds would give on these examples. `p_corrected`
    is Holm's over all arms against this reference. `examples_low` to `examples_high` also draws other examples.
    `effect_size` is Cohen's d (None where no seed differs). `wins`, `ties`, `losses` count examples by the arm's mean
    over seeds. `detectable` is the difference that such a comparison finds in four of five repetitions.
    """

    measure: str
    arm: str
    reference: str
    delta: float
    low: float
    high: float
    p: float
    p_corrected: float
    unit: Unit
    higher_is_better: bool
    examples_low: float
    examples_high: float
    effect_size: float | None
    wins: int
    ties: int
    losses: int
    detectable: float
    seeds: int

    @property
    def finding(self) -> Finding:
        """What may be said of the recipe, at the 5% level over all arms."""
        if self.seeds < FEWEST_SEEDS:
            return "too few seeds"
        if self.p_corrected >= LEVEL:
            return "no difference found"
        return "better" if (self.delta > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True)
class Comparison:
    """A finished comparison. The first arm is the reference; `measure` is the judged one; `seeds` are the judging ones.

    `about` describes every measure (an example of its scores); `base` has the untuned model's score per measure, by
    arm. `target_set_by` has what each arm reached that set the target. `warnings` are what a reader must know. `done` counts the jobs done by this call, 0 where all were there.
    """

    folder: Path
    arms: tuple[ArmOutcome, ...]
    measure: str
    seeds: tuple[int, ...]
    budget: Budget | None
    about: Mapping[str, Scores]
    base: Mapping[str, Mapping[str, float]]
    target: float | None = None
    warnings: tuple[str, ...] = ()
    done: int = 0
    tuning: Tuning | None = None
    target_set_by: Mapping[str, float] = field(default_factory=dict)
    _found: dict[tuple[str, str], dict[str, Effect]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def reference(self) -> str:
        """The name of the arm the others are measured against."""
        return self.arms[0].name

    @property
    def measures(self) -> list[str]:
        """The names of everything measured, the judged measure first."""
        return [self.measure, *(name for name in self.about if name != self.measure)]

    def arm(self, name: str) -> ArmOutcome:
        """The arm called `name`. Raises `BadInput` when there is none."""
        known = {arm.name: arm for arm in self.arms}
        if name not in known:
            raise BadInput(f"no arm is called '{name}'", hint=nearest(name, known) or f"Arms: {', '.join(known)}.")
        return known[name]

    def effect(self, measure: str, arm: str, reference: str | None = None) -> Effect:
        """The arm against the reference on a measure; `p_corrected` counts all arms against that reference."""
        return self.effects(measure, reference)[self.arm(arm).name]

    def effects(self, measure: str, reference: str | None = None) -> Mapping[str, Effect]:
        """Every other arm against the reference, by name."""
        if measure not in self.about:
            hint = nearest(measure, self.about) or f"Measured: {', '.join(self.about)}."
            raise BadInput(f"no measure is called '{measure}'", hint=hint)
        against = self.arm(reference or self.reference)
        key = (measure, against.name)
        if key not in self._found:
            others = [arm for arm in self.arms if arm.name != against.name]
            tests = [statistics.paired_t(arm.scores[measure] - against.scores[measure]) for arm in others]
            corrected = statistics.holm(np.asarray([test.p for test in tests]))
            self._found[key] = {
                arm.name: self._effect(measure, arm, against, test, float(p))
                for arm, test, p in zip(others, tests, corrected, strict=True)
            }
        return self._found[key]

    def _effect(
        self, measure: str, arm: ArmOutcome, against: ArmOutcome, test: statistics.Tested, corrected: float
    ) -> Effect:
        about = self.about[measure]
        differences = arm.values[measure] - against.values[measure]
        mean = differences.mean(0) * (1 if about.higher_is_better else -1)
        wide = statistics.hierarchical(differences, about.weights)
        spread = float(np.std(arm.scores[measure] - against.scores[measure], ddof=1))
        return Effect(
            measure=measure, arm=arm.name, reference=against.name, delta=test.estimate, low=test.low, high=test.high,
            p=test.p, p_corrected=corrected, unit=about.unit, higher_is_better=about.higher_is_better,
            examples_low=wide.low, examples_high=wide.high,
            effect_size=statistics.effect_size(arm.scores[measure], against.scores[measure]),
            wins=int((mean > TIE).sum()), ties=int((abs(mean) <= TIE).sum()), losses=int((mean < -TIE).sum()),
            detectable=statistics.detectable_by_t(spread, len(self.seeds)), seeds=len(self.seeds),
        )  # fmt: skip

    @cached_property
    def verdict(self) -> str:
        """What was found, in one sentence about the recipes."""
        from tunewright.comparison.verdict import verdict

        return verdict(self)

    def plain(self) -> dict[str, Any]:
        """The comparison as `comparison.json` holds it."""
        from tunewright.comparison.verdict import plain

        return plain(self)


TIE = 1e-9
"""Means of an example that differ by no more than this are equal."""
