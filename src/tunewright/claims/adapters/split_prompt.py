"""A short prompt and an update by position against a long prompt (card 171)."""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims.base import Bench, Claim, Criterion, Findings

TASKS = ("facts", "arithmetic")
STEPS, TOKENS, WIDTH, HELD = 30, 256, 64, 80
RATES = {"dept": (3e-2, 3e-1), "prompt": (3e-2, 3e-1), "shared": (5e-3, 3e-2)}
UPDATE_RATE, STILL = 5e-4, 1e-12
SHORT = {"method": "dept", "prompt_length": 16, "reference_length": 40, "max_length": WIDTH}


class SplitPrompt(Claim):
    """DePT learns what a long prompt of the same size learns, at fewer operations, and needs two rates for it.

    Two tasks of the embedded model with texts of at most 64 tokens, 30 steps of 256 tokens. A prompt of 40 vectors has
    7,680 values; so have DePT's 16 vectors and its update of rank 18. The long prompt is DePT with an update of rank 1
    that stays at 0. Operations are those of the forward and backward pass of the first micro-batch, as PyTorch counts
    matrix products outside attention (which would tell the more for the shorter prompt). Losses stand in the place of
    accuracies and are the mean of both tasks. With translation as the second task four seeds left it undecided, and
    with sentiment eight, whose losses differed by tenths of a nat from seed to seed. The authors train for 30,000 steps
    and more, which is not tested here, nor is a start from other tasks.
    """

    name: ClassVar[str] = "split_prompt"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="DePT: Decomposed Prompt Tuning for Parameter-Efficient Fine-tuning", arxiv="2309.05173", card=171),
    )
    sentence: ClassVar[str] = (
        "With as many values DePT ends no higher than prompt tuning at 15% fewer operations, and one shared rate ends "
        "higher than two."
    )
    arms: ClassVar = {
        "dept": "16 vectors and an update of rank 18, two rates",
        "prompt": "40 vectors",
        "shared": "16 vectors and an update of rank 18, one rate",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, DePT minus prompt", "below", 0.01, "nats per token"),
        Criterion("operations, DePT over prompt", "below", 0.85, "ratio"),
        Criterion("loss, one rate minus two", "above", 0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 8
    budget: ClassVar[str] = "30 steps of 256 tokens per arm and task, two rates on one seed, then eight seeds"

    def findings(self, bench: Bench) -> Findings:
        """Losses and operations per seed."""
        rates = {(arm, task): self._best(bench, arm, task) for arm, task in product(self.arms, TASKS)}
        loss, cost = np.zeros((2, len(self.arms), self.seeds, len(TASKS)))
        for (a, arm), seed, (t, task) in product(enumerate(self.arms), range(self.seeds), enumerate(TASKS)):
            loss[a, seed, t], cost[a, seed, t] = self._run(bench, arm, task, rates[arm, task], seed, "test")
        (dept, prompt, shared), costs = loss.mean(2), cost.sum(2)
        each = (dept - prompt, costs[0] / costs[1], shared - dept)
        values = {one.quantity: values.tolist() for one, values in zip(self.criteria, each, strict=True)}
        means = dict(zip(self.arms, loss.mean(1).tolist(), strict=True))
        return Findings(values, {"loss by task": means, "rates": {" ".join(key): rate for key, rate in rates.items()}})

    def _best(self, bench: Bench, arm: str, task: str) -> float:
        losses = [self._run(bench, arm, task, rate, TUNING_SEED, "tuning")[0] for rate in RATES[arm]]
        return RATES[arm][int(np.argmin(losses))]

    def _run(self, bench: Bench, arm: str, task: str, rate: float, seed: int, split: str) -> tuple[float, float]:
        """The loss after training, and the operations of the first micro-batch."""
        adapters: dict[str, tuple[dict[str, Any], float]] = {
            "dept": ({**SHORT, "lr_prompt": rate}, UPDATE_RATE),
            "prompt": ({**SHORT, "prompt_length": 40, "rank": 1, "lr_prompt": rate}, STILL),
            "shared": ({**SHORT, "lr_prompt": None}, rate),
        }
        adapter, lr = adapters[arm]
        made = recipe(
            task, steps=STEPS, tokens=TOKENS, held=HELD, seed=seed, adapter=adapter, evaluate=["perplexity"],
            optimizer={"method": "adamw", "lr": lr, "weight_decay": 1e-5}, schedule="linear",
        )  # fmt: skip
        made["data"]["eval"]["path"] = f"nano:{task}/{split}"
        made["data"] |= {"max_length": WIDTH, "truncation": "drop", "max_lost": 0.5}
        trial = bench.trial(arm, made)
        [batch, *_] = trial.loop.prepared(0, trial.loop.batches(0))
        with _Operations() as counted:
            trial.loop.losses(batch).total.backward()
        trial.loop.optimizer.zero_grad(set_to_none=True)
        trial.advance()
        return trial.scores()["perplexity"].score, float(counted.total)


class _Operations(TorchDispatchMode):
    """Counts the floating-point operations of matrix products while open."""

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if (count := flop_registry.get(function._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out
