"""LoRA forgets less than full tuning (card 58)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.evaluate.tasks.perplexity import Perplexity
from tunewright.evaluate.tasks.retention import Retention

TARGET, MOST = 0.45, 40


class LoRARetention(Claim):
    """At the same loss on the task, LoRA has lost less of what the base model knew than full tuning.

    Word problems on the embedded model; each run stops at the first step whose held-out loss on 40 problems is at most
    0.45 nats per token (the base has 0.9), or after 40 steps. Then the loss on 200 retention texts. Learning rates were
    set beforehand (LoRA of rank 16: 3e-3, full: 1e-3); steps and reached losses are shown. The paper's intruder
    dimensions are not counted here.
    """

    name: ClassVar[str] = "lora_retention"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="LoRA vs Full Fine-tuning: An Illusion of Equivalence", arxiv="2410.21228", card=58),
    )
    sentence: ClassVar[str] = (
        "Tuned to the same loss on the task, LoRA raises the loss on text the base model knew less than full tuning does."
    )
    arms: ClassVar = {"lora": "LoRA of rank 16, lr 3e-3", "full": "all parameters, lr 1e-3"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("retention loss at the task's target, LoRA minus full", "below", -0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "at most 40 steps of 1,024 tokens per arm and seed, to a held-out loss of 0.45"

    def findings(self, bench: Bench) -> Findings:
        """The difference of the retention losses for every seed."""
        changes: dict[str, dict[str, Any]] = {
            "lora": {},
            "full": {"adapter": "full", "optimizer": {"method": "adamw", "lr": 1e-3}},
        }
        ends = {arm: [self._end(bench, arm, seed, each) for seed in range(self.seeds)] for arm, each in changes.items()}
        differences = [a[0] - b[0] for a, b in zip(ends["lora"], ends["full"], strict=True)]
        names = ("retention loss", "task loss", "steps")
        shown = {arm: dict(zip(names, np.mean(found, axis=0).tolist(), strict=True)) for arm, found in ends.items()}
        return Findings({self.criteria[0].quantity: differences}, shown)

    def _end(self, bench: Bench, arm: str, seed: int, changes: dict[str, Any]) -> tuple[float, float, float]:
        """Retention loss, task loss and steps at the target."""
        made = recipe("word_problems", steps=MOST, tokens=1024, held=40, seed=seed, schedule="constant", **changes)
        trial = bench.trial(arm, made)
        loss, steps = float("inf"), 0
        while loss > TARGET and steps < MOST:
            trial.advance(1)
            steps += 1
            loss = Perplexity().score(trial.subject()).score
        return Retention().score(trial.subject()).score, loss, float(steps)
