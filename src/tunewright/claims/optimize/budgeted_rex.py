"""REX at short and long budgets (card 205)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims._small import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings

BUDGETS = (15, 75, 300)
RATES = (1e-3, 3e-3, 1e-2)
OTHERS = ("linear", "cosine", "wsd")


class BudgetedRex(Claim):
    """REX is the best schedule, or tied with the best, whatever part of the full budget a run has.

    A decoder of 0.2 million parameters trained from nothing on three skills' rows, for 15, 75 and 300 steps (5, 25 and
    100%). Every schedule's rate is chosen from three at every budget, on rows and a seed that do not judge; warm-up of
    3% for all. The value of a seed is the held-out loss averaged over the budgets. Warmup-stable-decay stands for the
    paper's step schedule; exponential decay is not here.
    """

    name: ClassVar[str] = "budgeted_rex"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="REX: Revisiting Budgeted Training with an Improved Schedule", arxiv="2107.04197", card=205),
    )
    sentence: ClassVar[str] = (
        "Averaged over budgets of 5, 25 and 100%, no other schedule ends with a loss lower than REX's by 0.02 nats."
    )
    arms: ClassVar = {"rex": "REX", **{name: f"the {name} schedule" for name in OTHERS}}
    criteria: ClassVar[tuple[Criterion, ...]] = tuple(
        Criterion(f"mean loss over budgets, rex minus {name}", "below", 0.02, "nats per token") for name in OTHERS
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "15, 75 and 300 steps of 512 tokens, three rates on one seed, then five seeds"

    def findings(self, bench: Bench) -> Findings:
        """Differences per seed, and the losses and rates by budget."""
        losses = {name: np.zeros((self.seeds, len(BUDGETS))) for name in self.arms}
        rates = {name: [self._best(bench, name, steps) for steps in BUDGETS] for name in self.arms}
        for name, found in losses.items():
            for (seed, budget), _ in np.ndenumerate(found):
                found[seed, budget] = self._loss(bench, name, BUDGETS[budget], rates[name][budget], seed, "test")
        values = {
            criterion.quantity: (losses["rex"] - losses[name]).mean(1).tolist()
            for criterion, name in zip(self.criteria, OTHERS, strict=True)
        }
        return Findings(values, {"losses": {n: v.mean(0).tolist() for n, v in losses.items()}, "rates": rates})

    def _best(self, bench: Bench, name: str, steps: int) -> float:
        found = [self._loss(bench, name, steps, rate, TUNING_SEED, "tuning") for rate in RATES]
        return RATES[int(np.argmin(found))]

    def _loss(self, bench: Bench, name: str, steps: int, rate: float, seed: int, split: str) -> float:
        trial = bench.trial(name, recipe(steps=steps, seed=seed, lr=rate, split=split, schedule=name))
        trial.advance()
        return trial.scores()["perplexity"].score
