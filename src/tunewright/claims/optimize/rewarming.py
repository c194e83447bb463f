"""Re-warming the rate to go on training (card 216)."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._small import keep, recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings, Trial

OLD, NEW = ("storytelling", "facts"), ("functions",)
FIRST, FURTHER, PEAK = 500, 300, 3e-3
RISES = (0.0, 0.01, 0.02)


class Rewarming(Claim):
    """To learn new data, a finished model needs its rate raised again, and pays for it on the old data.

    A decoder of 0.2 million parameters is trained from nothing for 500 steps on stories and facts (cosine to a tenth of
    3e-3), then for 300 steps on small Python functions: re-warmed to the same peak (a rise of 1%), at the old final
    rate, or from nothing at the same cost. Optimizer state begins anew. The rise of 2% is compared with none. On
    translations into the world's second language re-warming was 0.023 nats [0.002, 0.044] below training from nothing
    over eight seeds, on the bound. A first run asked whether four rises range over less than two deviations of the
    seeds, which equal ones do by chance, about: the smallest effect of the other criteria takes its place.
    """

    name: ClassVar[str] = "rewarming"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Continual Pre-Training of Large Language Models: How to (re)warm your model?",
            arxiv="2308.04014",
            card=216,
        ),
    )
    sentence: ClassVar[str] = (
        "Re-warmed training ends lower on the new data than training at the old final rate and than training from "
        "nothing, and higher on the old data; the length of the rise does not matter."
    )
    arms: ClassVar = {
        "rewarmed": "peak 3e-3 after a rise of 1%",
        "kept": "constant at 3e-4",
        "scratch": "from random weights, peak 3e-3",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("new loss, re-warmed minus kept rate", "below", -0.02, "nats per token"),
        Criterion("new loss, re-warmed minus from nothing", "below", -0.02, "nats per token"),
        Criterion("old loss, re-warmed minus kept rate", "above", 0.02, "nats per token"),
        Criterion("new loss, rise of 2% minus none", "within", 0.02, "nats per token"),
    )
    seeds: ClassVar[int] = 6
    budget: ClassVar[str] = "500 steps of 512 tokens once per seed, then 300 per arm and rise"

    def findings(self, bench: Bench) -> Findings:
        """Old and new loss of every arm per seed, and the new loss by rise."""
        runs = [self._seed(bench, seed) for seed in range(self.seeds)]
        new = {arm: np.array([run[arm][0] for run in runs]) for arm in self.arms}
        old = {arm: np.array([run[arm][1] for run in runs]) for arm in self.arms}
        rises = np.array([[run[f"rise {rise}"][0] for rise in RISES] for run in runs])
        found = (
            new["rewarmed"] - new["kept"],
            new["rewarmed"] - new["scratch"],
            old["rewarmed"] - old["kept"],
            rises[:, -1] - rises[:, 0],
        )
        values = {c.quantity: each.tolist() for c, each in zip(self.criteria, found, strict=True)}
        means = {arm: {"new loss": float(new[arm].mean()), "old loss": float(old[arm].mean())} for arm in self.arms}
        return Findings(values, {"means": means, "new loss by rise": rises.mean(0).tolist()})

    def _seed(self, bench: Bench, seed: int) -> dict[str, tuple[float, float]]:
        """(new loss, old loss) of every arm, and of every rise."""
        with TemporaryDirectory() as folder:
            first = bench.trial("first", recipe(steps=FIRST, seed=seed, skills=OLD, lr=PEAK, schedule={"method": "cosine", "floor": 0.1}))  # fmt: skip
            first.advance()
            old = {"path": keep(first, Path(folder))}
            further = lambda arm, rate, **changes: self._further(bench, arm, rate, seed, **changes)
            found = {
                f"rise {rise}": further("rewarmed", PEAK, model=old, schedule={"method": "rewarm", "warmup": rise})
                for rise in RISES
            }
            found["kept"] = further("kept", PEAK / 10, model=old, schedule="constant")
        found["scratch"] = further("scratch", PEAK, schedule={"method": "cosine", "floor": 0.1})
        return {**found, "rewarmed": found["rise 0.01"]}

    def _further(self, bench: Bench, arm: str, rate: float, seed: int, **changes: Any) -> tuple[float, float]:
        made = recipe(steps=FURTHER, seed=seed, skills=NEW, lr=rate, **changes)
        held = [{"path": f"nano:{skill}/test", "limit": 50, "name": skill} for skill in (*NEW, *OLD)]
        trial = bench.trial(arm, {**made, "data": {**made["data"], "eval": held}})
        trial.advance()
        return _losses(trial)


def _losses(trial: Trial) -> tuple[float, float]:
    """The loss on the new rows and on the old ones."""
    scores = trial.scores()["perplexity"]
    new = np.isin(scores.groups, NEW)
    mean = lambda chosen: float(np.average(scores.values[chosen], weights=scores.weights[chosen]))
    return mean(new), mean(~new)
