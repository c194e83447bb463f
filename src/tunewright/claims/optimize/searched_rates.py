"""Rates searched while training (card 195)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims._small import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings

STAGE, STAGES = 100, 3
HIGHEST = 3e-2
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


class SearchedRates(Claim):
    """AutoLRS, which knows nothing but four decades of rates, ends no worse than the best constant rate.

    A decoder of 0.2 million parameters trained from nothing for three stages of 100 steps; at the start of each, ten
    rates between 3e-6 and 3e-2 are tried for 10 steps. Beside it a constant rate and the cosine schedule, each at the
    best of six rates. The trial steps of AutoLRS are not counted as training.
    """

    name: ClassVar[str] = "searched_rates"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="AutoLRS: Automatic Learning-Rate Schedule by Bayesian Optimization on the Fly",
            arxiv="2105.10762",
            card=195,
        ),
    )
    sentence: ClassVar[str] = (
        "From an interval of four decades AutoLRS ends no higher than the best constant rate and within 0.05 nats of "
        "tuned cosine, and its rate falls from the first stage to the last."
    )
    arms: ClassVar = {
        "autolrs": "searched in every stage",
        "constant": "best of six constant rates",
        "cosine": "cosine at the best of six",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, autolrs minus constant", "below", 0.02, "nats per token"),
        Criterion("loss, autolrs minus cosine", "below", 0.05, "nats per token"),
        Criterion("log10 of the rate, last stage minus first", "below", 0.0, "decades"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "300 steps of 512 tokens (and as many of search), six rates on one seed, then five seeds"

    def findings(self, bench: Bench) -> Findings:
        """Losses per seed and the rates that the search took."""
        rates = {name: self._best(bench, name) for name in ("constant", "cosine")}
        losses, taken = {name: list[float]() for name in self.arms}, []
        for seed in range(self.seeds):
            for name, rate in rates.items():
                losses[name].append(self._loss(bench, name, name, rate, seed, "test"))
            searched = {
                "method": "autolrs", "warmup": 0, "lowest": 1e-4, "stage": STAGE, "longest_stage": STAGE, "rates": 10,
            }  # fmt: skip
            trial = bench.trial("autolrs", _recipe(searched, HIGHEST, seed, "test"))
            trial.advance()
            search = trial.loop.hooks[0]
            losses["autolrs"].append(trial.scores()["perplexity"].score)
            taken.append([HIGHEST * stage["factor"] for stage in search.stages])
        values = {
            self.criteria[0].quantity: np.subtract(losses["autolrs"], losses["constant"]).tolist(),
            self.criteria[1].quantity: np.subtract(losses["autolrs"], losses["cosine"]).tolist(),
            self.criteria[2].quantity: [float(np.log10(one[-1] / one[0])) for one in taken],
        }
        means = {name: float(np.mean(found)) for name, found in losses.items()}
        return Findings(values, {"means": means, "rates": rates, "searched": taken})

    def _best(self, bench: Bench, name: str) -> float:
        found = [self._loss(bench, name, name, rate, TUNING_SEED, "tuning") for rate in RATES]
        return RATES[int(np.argmin(found))]

    def _loss(self, bench: Bench, arm: str, schedule: object, rate: float, seed: int, split: str) -> float:
        trial = bench.trial(arm, _recipe(schedule, rate, seed, split))
        trial.advance()
        return trial.scores()["perplexity"].score


def _recipe(schedule: object, rate: float, seed: int, split: str) -> dict[str, object]:
    return recipe(steps=STAGE * STAGES, seed=seed, lr=rate, split=split, schedule=schedule)
