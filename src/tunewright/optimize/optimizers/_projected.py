"""Adam in a low-rank subspace of each matrix's gradient."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.catalog import option
from tunewright.models.layers import block_of
from tunewright.optimize.optimizers.base import Optimizer

State = dict[str, Any]


class Projected(Optimizer):
    """Adam on P^T G (or G P^T) for the matrices of the model's blocks, AdamW on everything else."""

    rank: int = option(128, "Rank of the subspace; at most the smaller side of a matrix.", changes="bytes", to=2, ge=1)
    gap: int = option(200, "Steps between new subspaces.", changes="loss", to=2, given={"optimizer.rank": 2}, ge=1)
    scale: float = option(0.25, "Factor on the update of projected matrices.", changes="loss", to=1.0, gt=0)
    beta1: float = option(0.9, "Decay of the mean gradient.", changes="loss", to=0.0, ge=0, lt=1)
    beta2: float = option(0.999, "Decay of the mean squared gradient.", changes="loss", to=0.5, ge=0, lt=1)
    eps: float = option(1e-6, "Added to the root of the mean square.", changes="loss", to=1e-2, gt=0)

    def build(self, trained: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        inside = [p for name, p in trained.items() if p.ndim == 2 and block_of(name)]
        return self.walking(self.groups(trained), inside)

    def walking(self, groups: list[dict[str, Any]], projected: Collection[nn.Parameter]) -> ProjectedAdam:
        """The torch optimizer; `projected` are the matrices whose gradient is projected."""
        return ProjectedAdam(groups, projected, self)


class ProjectedAdam(torch.optim.Optimizer):
    """State of a projected [m, n]: basis and two moments of the low-rank gradient; of others two moments.

    The basis P [r, min(m, n)] has the leading singular vectors of the gradient on the shorter side as rows: right ones
    where m >= n (low-rank gradient G P^T [m, r]), else left ones (P G [r, n]). Moments stay when the basis changes.
    """

    def __init__(self, groups: list[dict[str, Any]], projected: Collection[nn.Parameter], method: Projected) -> None:
        self.method = method
        self.projected = {id(p) for p in projected}
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                update = self._projected(p, state) if id(p) in self.projected else self._adam(p.grad, state)
                p.add_(update, alpha=-group["lr"])
                p.mul_(1 - group["lr"] * group["weight_decay"])

    def direction(self, low: Tensor, state: State) -> Tensor:
        """What Adam follows instead of the low-rank gradient."""
        return low

    def due(self, state: State) -> bool:
        """Whether the step that `state` counts takes a new basis."""
        return (state["step"] - 1) % self.method.gap == 0

    def keep(self, basis: Tensor, state: State) -> None:
        """Stores a new basis."""
        state["basis"] = basis

    def basis(self, state: State) -> Tensor:
        """The basis as stored."""
        stored: Tensor = state["basis"]
        return stored

    def _projected(self, p: nn.Parameter, state: State) -> Tensor:
        gradient: Tensor = p.grad  # type: ignore[assignment]
        tall = p.shape[0] >= p.shape[1]
        if self.due(state):
            self.keep(leading(gradient, self.method.rank), state)
        basis = self.basis(state)
        low = gradient @ basis.T if tall else basis @ gradient
        update = self._adam(self.direction(low, state), state)
        return self.method.scale * (update @ basis if tall else basis.T @ update)

    def moments(self, gradient: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The two moments as they were kept, float32 in the gradient's shape; zeros at first."""
        if "mean" not in state:
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        return state["mean"], state["square"]

    def keep_moments(self, mean: Tensor, square: Tensor, state: State) -> None:
        """Stores the moments of a step, which `moments` gave and the step changed in place."""

    def _adam(self, gradient: Tensor, state: State) -> Tensor:
        method, steps = self.method, state["step"]
        mean, square = self.moments(gradient, state)
        mean.lerp_(gradient, 1 - method.beta1)
        square.mul_(method.beta2).addcmul_(gradient, gradient, value=1 - method.beta2)
        root = (square / (1 - method.beta2**steps)).sqrt_().add_(method.eps)
        update = mean / (1 - method.beta1**steps) / root
        self.keep_moments(mean, square, state)
        return update


def leading(gradient: Tensor, rank: int) -> Tensor:
    """The first singular vectors on the shorter side as rows [r, min(m, n)]: right ones where m >= n, else left ones."""
    u, _, v = torch.linalg.svd(gradient.float(), full_matrices=False)
    return (v[:rank] if gradient.shape[0] >= gradient.shape[1] else u[:, :rank].T).contiguous()
