"""Prompt formats move accuracy, and a bandit finds by how much (card 194)."""

from __future__ import annotations

import random
import tempfile
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe, written
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.evaluate.choices import choices_of
from tunewright.evaluate.metrics.format_spread import thompson_extremes, uniform_extremes
from tunewright.evaluate.prompts import Format, formats
from tunewright.evaluate.tasks.format_spread import outcomes

Floats = NDArray[np.float64]

FORMATS, ITEMS, REPLAYS = 20, 100, 50
CHANGES: dict[str, Any] = {"steps": 16, "tokens": 1024, "train": 600, "held": ITEMS}


class FormatBandit(Claim):
    """Formats that mean the same give different accuracies; Thompson sampling finds the spread at a fifth of the cost.

    Sentiment of short reviews: LoRA on the embedded model with prompts as they are, then 20 formats on 100 held-out
    rows, once, into a table. On each table the bandit and uniform allocation are replayed 50 times with a fifth of the
    evaluations, with items in a new order each time. The third arm is tuned with each prompt in a format drawn at
    random from 200 others.
    """

    name: ClassVar[str] = "format_bandit"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Quantifying Language Models' Sensitivity to Spurious Features in Prompt Design or: How I learned to "
            "start worrying about prompt formatting",
            arxiv="2310.11324",
            card=194,
        ),
    )
    sentence: ClassVar[str] = (
        "The accuracy of a tuned model differs by more than ten points between equivalent prompt formats, a bandit with a "
        "fifth of the evaluations finds that spread within five points and better than uniform allocation, and tuning on "
        "random formats shrinks it."
    )
    arms: ClassVar = {"plain": "prompts as they are", "augmented": "every prompt in a random format"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("spread over formats", "above", 10.0, "points"),
        Criterion("error of the bandit's spread in a replay", "below", 5.0, "points"),
        Criterion("error of the bandit minus that of uniform allocation", "below", 0.0, "points"),
        Criterion("spread after augmented tuning minus plain", "below", 0.0, "points"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "16 steps of 1,024 tokens per arm and seed; 20 formats on 100 rows"

    def findings(self, bench: Bench) -> Findings:
        """Spreads for every seed, errors for every replay."""
        tables = {arm: [_table(bench, arm, seed) for seed in range(self.seeds)] for arm in self.arms}
        spread = {arm: [100 * _spread(table) for table in each] for arm, each in tables.items()}
        errors = np.array([_errors(table, k) for table in tables["plain"] for k in range(REPLAYS)])
        bandit, uniform, empirical = 100 * errors.T
        augmented = [a - b for a, b in zip(spread["augmented"], spread["plain"], strict=True)]
        found: list[Any] = [spread["plain"], bandit.tolist(), (bandit - uniform).tolist(), augmented]
        shown = {
            "mean error of the bandit": bandit.mean(), "of uniform allocation": uniform.mean(),
            "of the bandit by empirical rate": empirical.mean(), "spread after augmented tuning": np.mean(spread["augmented"]),
            "accuracy of plain and augmented": [float(np.mean(tables[arm])) for arm in self.arms],
        }  # fmt: skip
        values = {c.quantity: each for c, each in zip(self.criteria, found, strict=True)}
        return Findings(values, {name: v if isinstance(v, list) else float(v) for name, v in shown.items()})


def augmented_rows(folder: str, seed: int, skill: str = "sentiment", count: int = 600) -> str:
    """The path of training rows whose prompts have formats drawn at random, none of those that are measured."""
    measured = {str(form) for form in formats(FORMATS)}
    others = [form for form in formats(200, seed=1 + seed) if str(form) not in measured]
    rng = random.Random(seed)
    rows = []
    for row in nanoworld.rows(skill, "train", count):
        asked, answer = row["messages"]
        content = rng.choice(others).put(asked["content"])
        rows.append({"messages": [{**asked, "content": content}, answer]})
    return written(folder, "augmented", rows)


def tuned(bench: Bench, arm: str, seed: int, folder: str) -> Any:
    """The arm's trial, trained."""
    made = recipe("sentiment", seed=seed, **CHANGES)
    if arm == "augmented":
        made["data"]["train"] = {"path": augmented_rows(folder, seed)}
    trial = bench.trial(arm, made)
    trial.advance()
    return trial


def _table(bench: Bench, arm: str, seed: int) -> Floats:
    """Right or wrong of every item in every format [formats, items]."""
    with tempfile.TemporaryDirectory() as folder:
        trial = tuned(bench, arm, seed, folder)
    found = choices_of(trial.rows, trial.rows)
    made: list[Format] = formats(FORMATS)
    return np.stack([outcomes(trial.subject(), trial.rows, form, found) for form in made])


def _spread(table: Floats) -> float:
    means = table.mean(1)
    return float(means.max() - means.min())


def _errors(table: Floats, seed: int) -> tuple[float, float, float]:
    """How far off the spread is: bandit by posterior mean, uniform allocation, bandit by empirical rate."""
    mixed = table[:, np.random.default_rng([194, seed]).permutation(table.shape[1])]
    budget = table.size // 5
    accuracy, (count, width) = float(table[0].mean()), table.shape
    bandits = [
        thompson_extremes(lambda arm, items: mixed[arm, items], count, width, accuracy, budget, 10, pick, seed)
        for pick in ("posterior_mean", "empirical")
    ]
    by_mean, by_rate, uniform = (
        abs(float(mixed[ends.best].mean() - mixed[ends.worst].mean()) - _spread(table))
        for ends in (*bandits, uniform_extremes(mixed, budget, seed))
    )
    return by_mean, uniform, by_rate
