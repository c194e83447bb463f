"""Training half of the matrices at a time (card 18)."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._pretrained import pretrained, tuning
from tunewright.claims._sources import losses
from tunewright.claims.base import Bench, Claim, Criterion, Findings

TASKS = ("word_problems", "tools", "instructions")
FIRST, STEPS, RATE = 500, 70, 1e-3


class HalfTuning(Claim):
    """In a sequence of tasks, training half of the matrices for each keeps more of the earlier ones.

    A decoder of 0.5 million parameters, 8 blocks of width 64, first trained on five other skills; then word problems,
    tool calls and instructions one after the other, 70 steps of 512 tokens each at a constant rate of 1e-3, the same
    for both arms. HFT draws its half anew for every task; embeddings train in neither arm. Measured by the loss of the
    answers of 80 held-out rows of each task: so small a decoder answers too few to count right ones. The saving of time
    is not tested.
    """

    name: ClassVar[str] = "half_tuning"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="HFT: Half Fine-Tuning for Large Language Models", arxiv="2404.18466", card=18),
    )
    sentence: ClassVar[str] = (
        "After three tasks in sequence the earlier two are better kept with half of the matrices trained per task than "
        "with all of them, and the last ends within 0.05 nats per token."
    )
    arms: ClassVar = {"half": "HFT, another half for each task", "full": "all matrices of the blocks"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss on earlier tasks, half minus full", "below", -0.02, "nats per token"),
        Criterion("loss on the last task, half minus full", "below", 0.05, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "3 tasks of 70 steps of 512 tokens per arm and seed, after 500 steps once"

    def findings(self, bench: Bench) -> Findings:
        """Losses of the earlier tasks and of the last one, after the sequence."""
        with TemporaryDirectory() as folder:
            start = pretrained(bench, folder, FIRST)
            found = {arm: [self._sequence(bench, arm, start, seed) for seed in range(self.seeds)] for arm in self.arms}
        half, full = (np.array(found[arm]) for arm in ("half", "full"))
        apart = (half - full).T
        values = {c.quantity: row.tolist() for c, row in zip(self.criteria, apart, strict=True)}
        named = lambda runs: dict(zip(("earlier tasks", "last task"), runs.mean(0).tolist(), strict=True))
        return Findings(values, {"means": {"half": named(half), "full": named(full)}})

    def _sequence(self, bench: Bench, arm: str, start: str, seed: int) -> tuple[float, float]:
        """The loss on the earlier tasks and on the last."""
        state: dict[str, Any] | None = None
        scores: dict[str, float] = {}
        for stage, task in enumerate(TASKS):
            made = tuning(
                STEPS, (task,), seed=seed, lr=RATE, schedule="constant", model={"path": start},
                adapter={"method": "full", "train_modules": ["layers"]},
                layers={"method": "hft", "stage": stage} if arm == "half" else None,
            )  # fmt: skip
            made["data"]["eval"] = tuning(STEPS, TASKS)["data"]["eval"]
            trial = bench.trial(arm, made)
            if state is not None:
                trial.attached.load_state(state)
            trial.advance()
            state = {name: value.clone() for name, value in trial.attached.state().items()}
            if stage == len(TASKS) - 1:
                scores = losses(trial)
        return float(np.mean([scores[task] for task in TASKS[:-1]])), scores[TASKS[-1]]
