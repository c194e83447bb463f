"""Low-rank experts against one low-rank update (card 88)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Bench, Criterion, Trial

TASKS = ("facts", "arithmetic", "functions", "translation")
STEPS, TOKENS, HELD = 14, 512, 30
EXPERTS: Mapping[str, Any] = {
    "method": "mixlora", "num_experts": 4, "top_k": 2, "rank": 4, "alpha": 8, "dropout": 0.0, "attention_modules": [],
}  # fmt: skip


class MixedExperts(AtBestRate):
    """A mixture of low-rank experts serves four tasks as well as one update of the same size, if its load is balanced.

    Facts, arithmetic, functions and translation, mixed by tokens as they come, on the embedded model: four experts of
    rank 4 in every feed-forward block, two per token, against one update of rank 16 there. The score of a task is 100
    exp(-loss), and the mean over tasks counts. The entropy is that of the shares of tokens that each expert of a block
    gets on held-out rows, the mean over blocks, at most ln 4. Attention has no updates in either arm, so that the sizes
    are equal (but for the router). Not tested here: top-1 and DoRA variants, memory, speed.
    """

    name: ClassVar[str] = "mixed_experts"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="MixLoRA: Enhancing Large Language Models Fine-Tuning with LoRA based Mixture of Experts",
            arxiv="2404.15159",
            card=88,
        ),
    )
    sentence: ClassVar[str] = (
        "On four tasks at once MixLoRA's mean score is no lower than that of one LoRA of its size, and without the "
        "balance term its experts' loads are less even."
    )
    arms: ClassVar = {
        "mixture": "four experts of rank 4, balance 0.01",
        "unbalanced": "four experts of rank 4, balance 0",
        "lora": "LoRA of rank 16 on the feed-forward layers",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("mean score, mixture minus LoRA", "above", -0.5, "points"),
        Criterion("entropy of loads, without minus with balance", "below", -0.01, "nats"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "14 steps of 512 tokens, two rates on one seed, then four seeds, per arm"
    recipe: ClassVar[Mapping[str, Any]] = {
        **recipe(TASKS[0], steps=STEPS, tokens=TOKENS, evaluate=["perplexity"]),
        "data": {
            "sources": [{"path": f"nano:{task}/train", "limit": 300, "name": task} for task in TASKS],
            "eval": [{"path": f"nano:{task}/test", "limit": HELD, "name": task} for task in TASKS],
        },
    }
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mixture": {"adapter": {**EXPERTS, "balance": 0.01}},
        "unbalanced": {"adapter": {**EXPERTS, "balance": 0.0}},
        "lora": {
            "adapter": {
                "method": "lora", "rank": 16, "alpha": 32, "target_modules": ["gate_proj", "up_proj", "down_proj"],
            }
        },
    }  # fmt: skip
    rates: ClassVar[Sequence[float]] = (2e-3, 5e-3)
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "mean score, mixture minus LoRA": ("score", "mixture", "lora"),
        "entropy of loads, without minus with balance": ("entropy", "unbalanced", "mixture"),
    }

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The mean score over tasks and, of a mixture, the entropy of its loads; 0 for LoRA."""
        mixtures = [] if arm == "lora" else list(trial.attached.mixtures.values())
        for one in mixtures:
            one.seen = []
        scores = trial.scores()["perplexity"]
        entropies = [_entropy(torch.cat([routing.chosen.flatten() for routing in one.seen])) for one in mixtures]
        for one in mixtures:
            one.seen = None
        own = [np.array([group == task for group in scores.groups]) for task in TASKS]
        losses = [float(np.average(scores.values[rows], weights=scores.weights[rows])) for rows in own]
        score = float(np.mean([100 * math.exp(-loss) for loss in losses]))
        return {"score": score, "entropy": float(np.mean(entropies)) if entropies else 0.0}


def _entropy(chosen: torch.Tensor) -> float:
    """The entropy of the shares of experts among assignments, in nats."""
    shares = torch.bincount(chosen, minlength=EXPERTS["num_experts"]).double() / len(chosen)
    return float(torch.special.entr(shares).sum())
