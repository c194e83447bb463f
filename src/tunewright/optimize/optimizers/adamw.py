"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from tunewright.catalog import Paper, option
from tunewright.optimize.optimizers.base import Optimizer


class AdamW(Optimizer):
    """Steps along the mean gradient over the root of its mean square, weight decay apart from both.

    m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + decay p).
    State: two float32 tensors per parameter. Runs torch's fused kernel.
    """

    name: ClassVar[str] = "adamw"
    papers: ClassVar[tuple[Paper, ...]] = (Paper(title="Decoupled Weight Decay Regularization", arxiv="1711.05101"),)

    beta1: float = option(0.9, "Decay of the mean gradient.", changes="loss", to=0.0, ge=0, lt=1)
    beta2: float = option(0.999, "Decay of the mean squared gradient.", changes="loss", to=0.5, ge=0, lt=1)
    eps: float = option(1e-8, "Added to the root of the mean square.", changes="loss", to=1e-2, gt=0)

    @property
    def traits(self) -> frozenset[str]:
        return frozenset({"adam"})

    def over(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)
