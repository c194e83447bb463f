"""Fewer new subspaces in Q-GaLore (card 81)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims._small import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings

STEPS, RATES = 250, (3e-3, 1e-2, 3e-2)
PROJECTED = {"rank": 16, "gap": 10}


class RarerSubspaces(Claim):
    """Q-GaLore takes far fewer new subspaces than GaLore and ends about as low.

    A decoder of 0.2 million parameters of width 64 trained from nothing for 250 steps with rank 16; both begin with a
    new subspace every 10 steps, each at the best of three rates. A new subspace costs one singular value decomposition
    of a matrix. The paper's 8-bit weights with stochastic rounding are not tested here.
    """

    name: ClassVar[str] = "rarer_subspaces"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients",
            arxiv="2407.08296",
            card=81,
        ),
    )
    sentence: ClassVar[str] = (
        "Q-GaLore ends within 3% of GaLore's loss or below with at most 60% of its singular value decompositions."
    )
    arms: ClassVar = {"galore": "GaLore", "q_galore": "Q-GaLore, 4-bit basis, gaps that double"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss of Q-GaLore over that of GaLore, minus 1", "below", 0.03, "share"),
        Criterion("decompositions of Q-GaLore over those of GaLore", "below", 0.6, "share"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "250 steps of 512 tokens, three rates on one seed, then five seeds"

    def findings(self, bench: Bench) -> Findings:
        """Loss and decompositions of both, per seed."""
        rates = {}
        for arm in self.arms:
            tried = [self._run(bench, arm, rate, TUNING_SEED, "tuning")[0] for rate in RATES]
            rates[arm] = RATES[int(np.argmin(tried))]
        runs = {
            arm: np.array([self._run(bench, arm, rates[arm], s, "test") for s in range(self.seeds)]) for arm in rates
        }
        loss, count = (runs["q_galore"] / runs["galore"]).T
        values = {self.criteria[0].quantity: (loss - 1).tolist(), self.criteria[1].quantity: count.tolist()}
        means = {
            arm: dict(zip(("loss", "decompositions"), run.mean(0).tolist(), strict=True)) for arm, run in runs.items()
        }
        return Findings(values, {"means": means, "rates": rates})

    def _run(self, bench: Bench, arm: str, rate: float, seed: int, split: str) -> tuple[float, float]:
        """Held-out loss, and how often a matrix took a new subspace."""
        own = {"weight_bits": None} if arm == "q_galore" else {}
        optimizer = {"method": arm, "lr": rate, **PROJECTED, **own}
        trial = bench.trial(arm, recipe(steps=STEPS, seed=seed, split=split, optimizer=optimizer))
        walking, taken = trial.loop.optimizer, 0
        keep = walking.keep

        def counted(*given: object) -> None:
            nonlocal taken
            taken += 1
            keep(*given)

        walking.keep = counted
        trial.advance()
        return trial.scores()["perplexity"].score, float(taken)
