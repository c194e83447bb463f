"""How far the judging test itself can be believed: its noise between seeds and what its single items are worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.comparison.outcome import Comparison
from tunewright.evaluate import statistics

Floats = NDArray[np.float64]

SHOWN = 10
"""Items listed as hardest and as telling runs apart least."""

FEWEST_ITEMS, FEWEST_RUNS = 20, 6
"""Below these no item response model is fitted."""


def reliability(comparison: Comparison) -> dict[str, Any]:
    """What the judged measure's scores over all arms and seeds say of the test.

    `sigma` is the deviation between seeds, pooled over arms, and `snr` the mean over it; `run_low` to `run_high` the 95%
    interval of one run over other examples. `trimmed` is sigma without the fifth of the items that discriminate least,
    `anchored` that of a tenth of the items, weighted to stand for all (answers right or wrong only), with its mean
    distance from the whole test: both judged on the runs that chose them. `hardest` and `weakest` list items with
    difficulty (mean score) and discrimination (correlation over runs with the sum of the other items).
    """
    name = comparison.measure
    about = comparison.about[name]
    arms = [arm.values[name] for arm in comparison.arms]
    takers = np.concatenate(arms)
    noise = [statistics.seed_noise(values, higher_is_better=about.higher_is_better) for values in arms]
    sigma = _pooled([arm.scores[name] for arm in comparison.arms])
    mean = float(np.mean([arm.scores[name].mean() for arm in comparison.arms]))
    found: dict[str, Any] = {
        "measure": name,
        "sigma": sigma,
        "snr": abs(mean) / sigma if sigma else None,
        "run_low": float(np.mean([one.interval.low for one in noise])),
        "run_high": float(np.mean([one.interval.high for one in noise])),
        "items": len(about.ids),
    }
    sharp = statistics.discrimination(takers)
    level = takers.mean(0)
    item = lambda k: {"id": about.ids[k], "difficulty": float(level[k]), "discrimination": float(sharp[k])}
    worst = np.argsort(level if about.higher_is_better else -level, kind="stable")[:SHOWN]
    found["hardest"] = [item(k) for k in worst.tolist()]
    found["weakest"] = [item(k) for k in np.argsort(sharp, kind="stable")[:SHOWN].tolist()]
    kept = statistics.trimmed(takers, takers).kept
    found["trimmed"] = {"items": len(kept), "sigma": _pooled([values[:, kept].mean(1) for values in arms])}
    found["anchored"] = _anchored(arms, takers)
    return found


def _anchored(arms: list[Floats], takers: Floats) -> dict[str, Any] | None:
    if not np.isin(takers, (0.0, 1.0)).all() or takers.shape[1] < FEWEST_ITEMS or len(takers) < FEWEST_RUNS:
        return None
    try:
        model = statistics.item_response(takers)
    except ValueError:
        return None
    chosen = statistics.anchors(model, max(2, takers.shape[1] // 10))
    distance = float(np.abs(chosen.score(takers) - takers.mean(1)).mean())
    return {
        "items": len(chosen.items), "sigma": _pooled([chosen.score(values) for values in arms]), "distance": distance,
    }  # fmt: skip


def _pooled(scores: list[Floats]) -> float:
    """The standard deviation between seeds, pooled over arms."""
    return float(np.sqrt(np.mean([one.var(ddof=1) for one in scores])))
