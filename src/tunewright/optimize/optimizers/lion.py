"""Lion: evolved sign momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from tunewright.catalog import Paper, option
from tunewright.optimize.optimizers.base import Optimizer


class Lion(Optimizer):
    """Steps by the sign of an interpolation between momentum and gradient.

    u = sign(b1 m + (1-b1) g); p -= lr (u + decay p); m = b2 m + (1-b2) g. State: one float32 tensor per parameter.
    Wants a learning rate 3 to 10 times smaller than AdamW's.
    """

    name: ClassVar[str] = "lion"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Symbolic Discovery of Optimization Algorithms", arxiv="2302.06675"),
    )

    beta1: float = option(0.9, "Share of the momentum in the step.", changes="loss", to=0.0, ge=0, lt=1)
    beta2: float = option(0.99, "Decay of the momentum.", changes="loss", to=0.1, ge=0, lt=1)

    def over(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return _Lion(groups, {"beta1": self.beta1, "beta2": self.beta2})


class _Lion(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = [self.state[p]["momentum"] for p in parameters]
            updates = torch._foreach_lerp(gradients, momenta, group["beta1"])
            torch._foreach_sign_(updates)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - group["beta2"])
