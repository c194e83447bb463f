"""Weight noise guided by gradients (card 135)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from tunewright.catalog import Paper
from tunewright.claims._answers import OnRows, Rows, answers
from tunewright.claims._nano import recipe
from tunewright.claims.base import Bench, Criterion, Trial
from tunewright.regularize._layers import pairs

STEPS, ROWS, WRONG = 80, 200, 0.25
DIRECTIONS, REACH = 5, 0.02


class GuidedNoise(OnRows):
    """With noisy rows and a high rank, noise in the weights leads to a lower test loss and a flatter minimum.

    LoRA of rank 64 on the embedded model, 80 steps of 512 tokens (8 passes) of 200 translations, a quarter of them wrong.
    Sharpness is the mean rise of the held-out loss over 5 random directions of 2% of each merged matrix's norm. The
    loss over ranks (double descent) and the paper's later variant along the momentum are not tested.
    """

    name: ClassVar[str] = "guided_noise"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LoRA-GGPO: Mitigating Double Descent in LoRA Fine-Tuning via Gradient-Guided Perturbation "
            "Optimization",
            arxiv="2502.14538",
            card=135,
        ),
    )
    sentence: ClassVar[str] = (
        "At rank 64 on rows of which a quarter are wrong, each at the better of two rates, LoRA-GGPO ends with a lower "
        "test loss and a lower sharpness than LoRA."
    )
    arms: ClassVar = {"noise": "LoRA-GGPO, sigma 0.03, beta 0.01", "plain": "LoRA"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, LoRA-GGPO minus LoRA", "below", -0.01, "nats per token"),
        Criterion("sharpness, LoRA-GGPO minus LoRA", "below", -0.001, "nats per token"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "80 steps of 512 tokens, two rates on one seed, then four seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "translation", steps=STEPS, tokens=512, evaluate=["perplexity"],
        adapter={"method": "lora", "rank": 64, "alpha": 128},
    )  # fmt: skip
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"noise": {"regularize": ["lora_ggpo"]}, "plain": {}}
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss, LoRA-GGPO minus LoRA": ("loss", "noise", "plain"),
        "sharpness, LoRA-GGPO minus LoRA": ("sharpness", "noise", "plain"),
    }

    def rows(self, bench: Bench, folder: str) -> Rows:
        """Translations, a quarter of them wrong."""
        return answers("translation", ROWS, WRONG)

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss, and its mean rise over random directions."""
        loss = trial.scores()["perplexity"].score
        risen = [_moved(trial, direction) - loss for direction in range(DIRECTIONS)]
        return {"loss": loss, "sharpness": float(np.mean(risen))}


@torch.no_grad()
def _moved(trial: Trial, direction: int) -> float:
    """The loss with every merged matrix moved in a random direction."""
    rng = torch.Generator().manual_seed(direction)
    layers = pairs(trial.policy)
    kept = {name: layer.weight.clone() for name, layer in layers.items()}
    for layer in layers.values():
        step = torch.randn(layer.weight.shape, generator=rng)
        merged = layer.weight + layer.scale * layer.up @ layer.down
        layer.weight.add_(REACH * merged.norm() / step.norm() * step)
    loss = float(trial.scores()["perplexity"].score)
    for name, layer in layers.items():
        layer.weight.copy_(kept[name])
    return loss
