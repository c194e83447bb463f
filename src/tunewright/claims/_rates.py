"""Claims that compare arms of one recipe, each at the learning rate that suits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.claims.base import Bench, Claim, Findings, Trial

TUNING_SEED = 1000
"""The seed of the runs that choose a rate; judging seeds begin at 0."""


class AtBestRate(Claim):
    """A claim that trains every arm at the rate that did best for it on rows and a seed that do not judge.

    `recipe` with an arm's `changes` (whole sections) is trained at each of `rates` and measured by `tuned_by` on the
    split `tuning` of its evaluation rows; then once per seed at the chosen rate, measured on the split `test`. The value
    of a criterion in a seed is a measure of one arm minus that of another: `measured` names them by its quantity.
    """

    recipe: ClassVar[Mapping[str, Any]]
    changes: ClassVar[Mapping[str, Mapping[str, Any]]]
    rates: ClassVar[Sequence[float]]
    tuned_by: ClassVar[str] = "perplexity"
    measured: ClassVar[Mapping[str, tuple[str, str, str]]]

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        made = {**self.recipe, **self.changes[arm]}
        evals = made["data"]["eval"]
        swap = lambda one: {**one, "path": one["path"].replace("/test", f"/{split}")}
        data = {**made["data"], "eval": [swap(one) for one in evals] if isinstance(evals, list) else swap(evals)}
        optimizer, train = {**made["optimizer"], "lr": rate}, {**made["train"], "seed": seed}
        return {**made, "data": data, "optimizer": optimizer, "train": train}

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The measures of a finished run."""
        return {name: one.score for name, one in trial.scores().items()}

    def best(self, bench: Bench, arm: str) -> float:
        """The arm's best rate on the tuning rows."""
        found = []
        for rate in self.rates:
            trial = bench.trial(arm, self.made(arm, rate, TUNING_SEED, "tuning"))
            trial.advance()
            score = trial.scores()[self.tuned_by]
            found.append(score.score if score.higher_is_better else -score.score)
        return self.rates[int(np.argmax(found))]

    def findings(self, bench: Bench) -> Findings:
        """Every criterion's difference per seed."""
        rates = {arm: self.best(bench, arm) for arm in self.changes}
        found: dict[str, list[dict[str, float]]] = {arm: [] for arm in self.changes}
        for seed in range(self.seeds):
            for arm, rate in rates.items():
                trial = bench.trial(arm, self.made(arm, rate, seed, "test"))
                trial.advance()
                found[arm].append(self.scored(bench, arm, trial))
        values = {
            quantity: [one[name] - other[name] for one, other in zip(found[first], found[second], strict=True)]
            for quantity, (name, first, second) in self.measured.items()
        }
        means = {
            arm: {name: float(np.mean([run[name] for run in runs])) for name in runs[0]} for arm, runs in found.items()
        }
        return Findings(values, {"means": means, "rates": rates})
