"""One setting of the power schedule for several batch sizes and lengths (card 198)."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims._small import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings

CELLS = tuple(product((512, 2048), (40_000, 160_000)))
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
EXPONENT, DECAY = -0.51, 0.1
LIMIT = 0.015


class OnePowerSetting(Claim):
    """One setting of the power schedule stays close to rates tuned for every batch size and length; one rate does not.

    A decoder of 0.2 million parameters trained from nothing with 512 or 2,048 tokens per step on 40,000 or 160,000
    tokens. In each of the four cells a constant rate with 10% decay is tuned over four rates. The power schedule's
    amplitude is set once, so that its rate at the end of the first cell is the one tuned there; its exponent is the
    paper's. The fixed rate is the one tuned in the first cell, used in all. The value of a seed is the worst cell's
    loss over the tuned one's, minus 1.
    """

    name: ClassVar[str] = "one_power_setting"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler",
            arxiv="2408.13359",
            card=198,
        ),
    )
    sentence: ClassVar[str] = (
        "One power setting stays within 1.5% of separately tuned rates in all four combinations of batch size and "
        "length, and one fixed rate does not."
    )
    arms: ClassVar = {
        "power": "one setting for all cells",
        "fixed": "the first cell's best rate in all cells",
        "tuned": "the best of four rates in each cell",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("worst cell's excess loss, power", "below", LIMIT, "share"),
        Criterion("worst cell's excess loss, one fixed rate", "above", LIMIT, "share"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "400,000 tokens per arm and seed, four rates on one seed, then five seeds"

    def findings(self, bench: Bench) -> Findings:
        """The worst cell of every seed for both settings."""
        rates = []
        for cell in CELLS:
            found = [self._loss(bench, "tuned", cell, _constant(), rate, TUNING_SEED, "tuning") for rate in RATES]
            rates.append(RATES[int(np.argmin(found))])
        losses = np.zeros((3, self.seeds, len(CELLS)))
        for seed, (k, cell) in product(range(self.seeds), enumerate(CELLS)):
            losses[0, seed, k] = self._loss(bench, "power", cell, _power(rates[0]), RATES[-1], seed, "test")
            losses[2, seed, k] = self._loss(bench, "tuned", cell, _constant(), rates[k], seed, "test")
            same = rates[k] == rates[0]
            losses[1, seed, k] = losses[2, seed, k] if same else self._loss(bench, "fixed", cell, _constant(), rates[0], seed, "test")  # fmt: skip
        worst = (losses[:2] / losses[2] - 1).max(-1)
        values = {criterion.quantity: each.tolist() for criterion, each in zip(self.criteria, worst, strict=True)}
        return Findings(values, {"tuned rates by cell": rates, "mean losses by cell": losses.mean(1).tolist()})

    def _loss(
        self, bench: Bench, arm: str, cell: tuple[int, int], schedule: object, rate: float, seed: int, split: str
    ) -> float:
        tokens, total = cell
        made = recipe(steps=total // tokens, tokens=tokens, seed=seed, lr=rate, split=split, schedule=schedule)
        trial = bench.trial(arm, made)
        trial.advance()
        return trial.scores()["perplexity"].score


def _constant() -> dict[str, object]:
    return {"method": "wsd", "decay": DECAY}


def _power(rate: float) -> dict[str, object]:
    """The power schedule whose rate at the end of the first cell is `rate`; the cap is the highest rate tried."""
    tokens, total = CELLS[0]
    sequences = tokens / MEAN_LENGTH
    amplitude = rate / RATES[-1] / sequences / total**EXPONENT
    return {"method": "power", "amplitude": amplitude, "exponent": EXPONENT, "decay": DECAY}


MEAN_LENGTH = 64
"""Tokens of a sequence as the batch size counts them; it cancels but for the rows' true mean length."""
