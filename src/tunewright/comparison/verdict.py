"""The verdict in words, and the comparison as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from tunewright.comparison.arms import POPULATION
from tunewright.comparison.outcome import ArmOutcome, Comparison, Effect, Swept, Times
from tunewright.comparison.reliability import reliability
from tunewright.evaluate.base import Unit
from tunewright.evaluate.measure import SHOWN
from tunewright.evaluate.statistics import time_score
from tunewright.search.dehb import ETA

POSITION = {"tokens": "tokens", "seconds": "seconds of training", "flops": "operations"}


def verdict(comparison: Comparison) -> str:
    """One sentence: over how many seeds and at which budget each arm did what against the reference, and beside it
    on what should not change."""
    effects = comparison.effects(comparison.measure)
    told = [f"'{name}' {_told(effect)}" for name, effect in effects.items()]
    for measure, about in comparison.about.items():
        if about.role == "retention" and measure != comparison.measure:
            worse = [f"'{n}' {_told(e)}" for n, e in comparison.effects(measure).items() if e.finding == "worse"]
            told += [f"on {measure.replace('_', ' ')}, {one}" for one in worse]
    return (
        f"these recipes, over {len(comparison.seeds)} seeds{_budget(comparison)}: on {_quantity(comparison)}, "
        + "; ".join(told)
    )


def _told(effect: Effect) -> str:
    unit = SHOWN[effect.unit][2]
    size = f"{amount(effect.delta, effect.unit, '+')} [{amount(effect.low, effect.unit)}, {amount(effect.high, effect.unit)}]"
    said = f"{size} {unit}".rstrip() + f" against '{effect.reference}': "
    if effect.finding == "too few seeds":
        return said + f"too few seeds to judge ({effect.seeds})"
    chance = f"p {effect.p_corrected:.2g}" if effect.p_corrected >= 1e-4 else "p below 0.0001"
    if effect.finding != "no difference found":
        return said + f"{effect.finding} ({chance})"
    if not effect.detectable:
        return said + "no difference found, the same in every seed"
    return (
        said
        + f"no difference found ({chance}; one of {amount(effect.detectable, effect.unit)} would be found 4 times in 5)"
    )


def _quantity(comparison: Comparison) -> str:
    about = comparison.about[comparison.measure]
    name = comparison.measure.replace("_", " ")
    return f"{name} ({about.metric})" if about.metric not in comparison.measure else name


def _budget(comparison: Comparison) -> str:
    if comparison.budget is not None:
        return f" at {number(comparison.budget.amount)} {POSITION[comparison.budget.unit]} each"
    return f" at {number(float(comparison.arms[0].costs['tokens'].mean()))} tokens each"


def number(value: float) -> str:
    """A budget as a person writes it."""
    return f"{value:,.0f}" if 100 <= value < 1e9 else f"{value:.3g}"


def amount(value: float, unit: Unit, sign: str = "") -> str:
    """A difference in the unit's own scale and decimals."""
    scale, digits, _ = SHOWN[unit]
    return f"{round(value * scale, digits) + 0.0:{sign}.{digits}f}"


def plain(comparison: Comparison) -> dict[str, Any]:
    """The comparison as `comparison.json` holds it; what is not finite is null."""
    measures = {
        name: {
            "unit": about.unit,
            "metric": about.metric,
            "role": about.role,
            "higher_is_better": about.higher_is_better,
            "examples": len(about.ids),
            "base": comparison.base.get(name, {}),
            "arms": [_arm(comparison, arm, name) for arm in comparison.arms],
        }
        for name, about in comparison.about.items()
    }
    budget = comparison.budget
    found = {
        "verdict": comparison.verdict,
        "measure": comparison.measure,
        "reference": comparison.reference,
        "arms": [
            _arm(comparison, arm, comparison.measure) | {"cost": arm.cost(), "cut": arm.cut} | _choice(comparison, arm)
            for arm in comparison.arms
        ],
        "seeds": list(comparison.seeds),
        "budget": {"unit": budget.unit, "amount": budget.amount} if budget else None,
        "target": comparison.target,
        "target_set_by": dict(comparison.target_set_by) or None,
        "tuning": checklist(comparison),
        "warnings": list(comparison.warnings),
        "reliability": reliability(comparison),
        "measures": measures,
    }
    made: dict[str, Any] = _finite(found)
    return made


def _arm(comparison: Comparison, arm: ArmOutcome, measure: str) -> dict[str, Any]:
    mean, low, high = arm.mean(measure)
    row: dict[str, Any] = {
        "name": arm.name,
        "mean": mean,
        "low": low,
        "high": high,
        "scores": arm.scores[measure].tolist(),
    }
    effect = None if arm.name == comparison.reference else comparison.effect(measure, arm.name)
    names = ("delta", "delta_low", "delta_high", "p", "p_corrected", "effect_size", "examples_low", "examples_high",
             "wins", "ties", "losses", "detectable", "finding")  # fmt: skip
    found = {} if effect is None else asdict(effect) | {
        "delta_low": effect.low, "delta_high": effect.high, "finding": effect.finding,
    }  # fmt: skip
    return row | {name: found.get(name) for name in names}


def checklist(comparison: Comparison) -> dict[str, Any] | None:
    """What a reader of a tuned result must be told (arXiv 2306.01324), per arm where arms differ; None if nothing was
    tuned. `budget_runs` counts full runs per arm, each done with every tuning seed; `runs` all trainings of an arm for
    its choice and its result, those of what is reported beside them not counted."""
    tuned = {arm.name: arm.tuned for arm in comparison.arms if arm.tuned is not None}
    if comparison.tuning is None or not tuned:
        return None
    seeds, tuner = comparison.tuning.seeds, comparison.tuning.sampler
    return {
        "tuner": tuner,
        "halving": comparison.tuning.halving or (ETA if tuner == "dehb" else None),
        "limits": comparison.tuning.limits,
        "pruner": comparison.tuning.pruner,
        "stopped": {name: one.stopped for name, one in tuned.items()} if comparison.tuning.pruner else None,
        "intervals": comparison.tuning.intervals if tuner in POPULATION else None,
        "population": comparison.tuning.trials if tuner in POPULATION else None,
        "lineage": {name: list(one.lineage) for name, one in tuned.items()} if tuner in POPULATION else None,
        "budget_runs": {name: one.cost / seeds for name, one in tuned.items()},
        "tune_seeds": seeds,
        "test_seeds": len(comparison.seeds),
        "runs": {name: one.cost + len(comparison.seeds) for name, one in tuned.items()},
        "tuned_on": list(comparison.tuning.on) or "training rows set apart",
        "space": {name: {key: asdict(axis) for key, axis in one.space.items()} for name, one in tuned.items()},
        "incumbent": {
            name: [dict(values) for values in one.schedule] or dict(one.chosen) for name, one in tuned.items()
        },
    }


def _choice(comparison: Comparison, arm: ArmOutcome) -> dict[str, Any]:
    row: dict[str, Any] = {}
    turn = 1.0 if comparison.about[comparison.measure].higher_is_better else -1.0
    honest = float(arm.scores[comparison.measure].mean())
    if arm.tuned is not None:
        row["tuned"] = asdict(arm.tuned) | {"gap": turn * (arm.tuned.score - honest)}
        row["iqm"] = dict(zip(("estimate", "low", "high"), arm.middle(comparison.measure), strict=True))
    if arm.conventional is not None:
        usual = {one.name: one.conventional.score for one in comparison.arms if one.conventional is not None}
        judged = {name: float(comparison.arm(name).scores[comparison.measure].mean()) for name in usual}
        rank, usual_rank = _rank(judged, arm.name, turn), _rank(usual, arm.name, turn)
        row["conventional"] = asdict(arm.conventional) | {
            "overestimation": turn * (arm.conventional.score - honest), "rank": usual_rank, "rank_of_result": rank,
        }  # fmt: skip
    for name, found in (("times", arm.times), ("studies", arm.studied)):
        if found is not None:
            score = _time_score(comparison, "times" if name == "times" else "studied")[arm.name]
            row[name] = _times(found) | {"reached": found.reached, "score": score}
    if arm.landscape:
        row["landscape"] = {key: [_swept(one) for one in values] for key, values in arm.landscape.items()}
    return row


def _rank(scores: Mapping[str, float], name: str, turn: float) -> int:
    """1 for the best; arms that are equal share a rank."""
    return 1 + sum(turn * one > turn * scores[name] for one in scores.values())


def _swept(one: Swept) -> dict[str, Any]:
    mean = one.mean()
    interval = (
        {"mean": None, "low": None, "high": None}
        if mean is None
        else dict(zip(("mean", "low", "high"), mean, strict=True))
    )
    return {"value": one.value, "scores": list(one.scores)} | interval


def _times(found: Times) -> dict[str, Any]:
    each = {name: getattr(found, name) for name in ("steps", "tokens", "seconds")}
    return {name: {"each": values.tolist(), "median": float(np.median(values))} for name, values in each.items()}


def _time_score(comparison: Comparison, field: Literal["times", "studied"]) -> dict[str, float]:
    """Every arm's score from its median tokens to the target: 1 for the fastest, 0 from four times as many on."""
    found: dict[str, Times] = {arm.name: getattr(arm, field) for arm in comparison.arms}
    scores = time_score(np.asarray([np.median(times.tokens) for times in found.values()])[:, None])
    return dict(zip(found, scores.tolist(), strict=True))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
