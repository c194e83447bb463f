"""The verdict in words, and the comparison as plain data."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from tunewright.comparison.outcome import ArmOutcome, Comparison, Effect
from tunewright.evaluate.base import Unit
from tunewright.evaluate.measure import SHOWN
from tunewright.evaluate.statistics import time_score

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
        "warnings": list(comparison.warnings),
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


def _choice(comparison: Comparison, arm: ArmOutcome) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if arm.tuned is not None:
        tuned = asdict(arm.tuned)
        gap = arm.tuned.score - float(arm.scores[comparison.measure].mean())
        row["tuned"] = tuned | {"gap": gap if comparison.about[comparison.measure].higher_is_better else -gap}
    if arm.times is not None:
        times = {name: getattr(arm.times, name) for name in ("steps", "tokens", "seconds")}
        row["times"] = {
            name: {"each": values.tolist(), "median": float(np.median(values))} for name, values in times.items()
        }
        row["times"] |= {"reached": arm.times.reached, "score": _time_score(comparison)[arm.name]}
    return row


def _time_score(comparison: Comparison) -> dict[str, float]:
    """Every arm's score from its median tokens to the target: 1 for the fastest, 0 from four times as many on."""
    waited = {arm.name: float(np.median(arm.times.tokens)) for arm in comparison.arms if arm.times is not None}
    scores = time_score(np.asarray(list(waited.values()))[:, None])
    return dict(zip(waited, scores.tolist(), strict=True))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
