"""Is a verdict as rare as it says where there is nothing to find: a recipe compared with itself, many times over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, digests, score_of, trial_recipe
from tunewright.comparison.outcome import LEVEL
from tunewright.errors import BadInput
from tunewright.evaluate import statistics
from tunewright.recipe import Recipe

Floats = NDArray[np.float64]

RECIPE = {
    "model": "nano",
    "data": {
        "train": {"path": "nano:sentiment/train", "limit": 1200},
        "eval": {"path": "nano:sentiment/test", "limit": 200},
    },
    "adapter": {"method": "lora", "rank": 8},
    "optimizer": {"method": "adamw", "lr": 3e-3},
    "train": {"steps": 40, "tokens_per_step": 512},
    "evaluate": ["exact_match", "perplexity"],
}
"""A run of a few seconds, long enough to leave chance behind: at chance, scores crowd at one value and alarms are rarer
than they may be."""

SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Planted differences, in standard deviations of a run."""

ARMS = 4
"""Arms of a comparison with several, to try the correction."""


@dataclass(frozen=True)
class Calibration:
    """False alarms and power on one measure, by comparisons drawn from a pool of runs that differ in the seed alone.

    `alarms` is the share of comparisons of two arms, `family_alarms` of four arms with at least one alarm after
    Holm's correction. `items_alone` is the share where a 95% interval over examples of one run against one other
    excludes 0, which is what a verdict about recipes must not rest on. `curve` has {"shift" in standard deviations of
    a run, "found", "expected" by the t test for normal scores}.
    """

    measure: str
    runs: int
    seeds: int
    draws: int
    mean: float
    sigma: float
    snr: float
    alarms: float
    family_alarms: float
    items_alone: float
    curve: tuple[dict[str, float], ...]


def calibrate(
    folder: Path, runs: int = 48, seeds: int = 5, draws: int = 1000, jobs: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Calibration]:  # fmt: skip
    """Trains the recipe with `runs` seeds (kept in `folder`, none trained twice) and compares it with itself.

    Raises `BadInput` where the pool is too small for `ARMS` arms of `seeds` runs.
    """
    if runs < ARMS * seeds:
        raise BadInput("too small a pool", field="runs", found=runs, expected=f"at least {ARMS * seeds}")
    recipe = Recipe.of(**RECIPE)
    files = digests(recipe)
    with Crew(folder, jobs, say=say) as crew:
        results = crew.results([Job("judge", trial_recipe(recipe, seed), files) for seed in range(runs)])
    found = []
    for scores in results[0].scores:
        each = [one for result in results if (one := score_of(result, scores.name)) is not None]
        values, weights = np.stack([one.values for one in each]), scores.weights
        found.append(judge(scores.name, values, weights, seeds, draws))
    return found


def judge(measure: str, values: Floats, weights: Floats, seeds: int, draws: int) -> Calibration:
    """The calibration of the decision rule on a pool of runs: `values` [runs, examples], `weights` [examples]."""
    scores = np.average(values, axis=1, weights=weights)
    sigma = float(scores.std(ddof=1))
    rng = np.random.default_rng(0xAA)
    drawn = np.stack([rng.permutation(len(scores))[: ARMS * seeds].reshape(ARMS, seeds) for _ in range(draws)])
    arms = scores[drawn]
    differences = arms[:, 1:] - arms[:, :1]
    p = np.asarray([[statistics.paired_t(one).p for one in row] for row in differences])
    family = np.asarray([statistics.holm(row).min() for row in p])
    curve = []
    for shift in SHIFTS:
        planted = [statistics.paired_t(row[0] + shift * sigma).p < LEVEL for row in differences]
        expected = statistics.power_by_t(shift * sigma, sigma * np.sqrt(2), seeds) if sigma else 0.0
        curve.append({"shift": shift, "found": float(np.mean(planted)), "expected": float(expected)})
    return Calibration(
        measure, len(scores), seeds, draws, float(scores.mean()), sigma,
        float(abs(scores.mean()) / sigma) if sigma else float("inf"), float(np.mean(p[:, 0] < LEVEL)),
        float(np.mean(family < LEVEL)), _items_alone(values, weights, drawn[:, :2, 0]), tuple(curve),
    )  # fmt: skip


def _items_alone(values: Floats, weights: Floats, pairs: NDArray[np.int64]) -> float:
    """Share of pairs of runs whose normal 95% interval over examples excludes 0."""
    d = values[pairs[:, 1]] - values[pairs[:, 0]]
    w = weights / weights.sum()
    mean = d @ w
    error = np.sqrt(((d - mean[:, None]) ** 2) @ w**2)
    return float(np.mean(np.abs(mean) > 1.96 * error))


def told(found: Sequence[Calibration]) -> str:
    """The calibrations as a table and their power curves, in Markdown."""
    head = "| measure | runs | sd of a run | false alarms, 2 arms | any of 4 arms | items alone |"
    lines = [head, "|---|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {c.measure} | {c.runs} | {c.sigma:.4g} | {c.alarms:.1%} | {c.family_alarms:.1%} | {c.items_alone:.1%} |"
        for c in found
    ]
    for c in found:
        lines += [
            "",
            f"{c.measure}: planted difference in sd of a run, found in {c.draws} comparisons of {c.seeds} seeds",
        ]
        lines += ["", "| planted | found | expected |", "|---:|---:|---:|"]
        lines += [f"| {row['shift']:.1f} | {row['found']:.1%} | {row['expected']:.1%} |" for row in c.curve]
    return "\n".join(lines)


def plain(found: Sequence[Calibration]) -> list[dict[str, Any]]:
    """The calibrations as JSON can hold them."""
    return [asdict(one) for one in found]
