"""MeZO: steps from forward passes alone, along directions of a fixed pool of seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tunewright.catalog import Paper, option
from tunewright.optimize.optimizers.base import Optimizer


class MeZO(Optimizer):
    """Estimates the slope along one random direction per step from two losses; no gradients, no moments.

    z = N(0, I) drawn from one of `seeds` seeds; g = (L(w + eps z) - L(w - eps z)) / (2 eps); w -= lr g z, then
    decoupled decay. The sum of g per seed is kept, so that without decay w = w0 - lr sum_j moved_j z_j is rebuilt from
    the first weights and `seeds` numbers (`rebuilt`), whatever the size of the model. A step takes two forward passes,
    and while it runs a copy of the trained parameters, from which they are put back exactly.

    Wants a rate far below AdamW's (1e-7 to 1e-5 for all weights of a large model) and many steps; the error of the
    estimate grows with the number of trained parameters.

    When to use: memory for inference is all there is, or what was learned must travel as a few numbers. When not:
    gradients fit: they reach the same loss in far fewer steps.
    """

    name: ClassVar[str] = "mezo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Fine-Tuning Language Models with Just Forward Passes", arxiv="2305.17333"),
        Paper(
            title="Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication Cost under 18 Kilobytes",
            arxiv="2312.06353",
            card=66,
        ),
    )

    lr: float = option(1e-6, "Learning rate at the schedule's height.", changes="loss", to=1e-3, gt=0)
    weight_decay: float = option(
        0.0, "Decoupled weight decay of matrices; norms and biases (one-dimensional) have none.", changes="loss",
        to=1.0, given={"optimizer.lr": 1e-3}, ge=0,
    )  # fmt: skip
    eps: float = option(5e-4, "Length of the trial step along the direction.", changes="loss", to=0.1, gt=0)
    seeds: int = option(4096, "Directions to draw from.", changes="loss", to=1, given={"optimizer.lr": 1e-3}, ge=1)
    pool: int = option(0, "Which pool of directions; runs that exchange steps share it.", changes="loss", to=1, ge=0)
    largest_change: float | None = option(
        None, "A step is skipped where the two losses differ by more.", changes="loss", to=1e-9,
        given={"optimizer.lr": 1e-3}, gt=0,
    )  # fmt: skip

    def build(self, trained: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return _MeZO(self.groups(trained), list(trained.values()), self)

    def rebuilt(self, start: Mapping[str, Tensor], moved: list[float], lr: float) -> dict[str, Tensor]:
        """w0 - lr sum_j moved_j z_j for tensors in the order they were trained in, all at rate `lr`."""
        found = {name: value.clone() for name, value in start.items()}
        for seed, length in enumerate(moved):
            if length:
                for index, value in enumerate(found.values()):
                    value.sub_(self.direction(value, seed, index), alpha=lr * length)
        return found

    def direction(self, like: Tensor, seed: int, index: int) -> Tensor:
        """z of the pool's seed for the `index`-th parameter, drawn in float32, in the parameter's dtype."""
        generator = torch.Generator(like.device)
        generator.manual_seed(((self.pool * self.seeds + seed) << 20) + index)
        return torch.randn(like.shape, generator=generator, device=like.device).to(like.dtype)


class _MeZO(torch.optim.Optimizer):
    """State, at the first of the trained parameters: the number of steps and the sum of factor x g per seed."""

    forward_only = True

    def __init__(self, groups: list[dict[str, Any]], trained: list[nn.Parameter], method: MeZO) -> None:
        super().__init__(groups, {})
        self.method, self.trained = method, trained

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is not None
        method = self.method
        groups = {id(p): group for group in self.param_groups for p in group["params"]}
        working = [(index, groups[id(p)], p) for index, p in enumerate(self.trained) if p.requires_grad]
        state = self.state[self.trained[0]]
        steps = state.get("steps", 0)
        seed = int(np.random.default_rng([method.pool, steps]).integers(method.seeds))
        before = [p.clone() for _, _, p in working]
        losses = []
        for sign in (1, -1):
            for (index, _, p), original in zip(working, before, strict=True):
                p.copy_(original).add_(method.direction(p, seed, index), alpha=sign * method.eps)
            losses.append(closure())
        for (_, _, p), original in zip(working, before, strict=True):
            p.copy_(original)
        del before
        slope = (losses[0] - losses[1]) / (2 * method.eps)
        state["steps"] = steps + 1
        if not math.isfinite(slope) or abs(losses[0] - losses[1]) > (method.largest_change or math.inf):
            return
        for index, group, p in working:
            p.sub_(method.direction(p, seed, index), alpha=group["lr"] * slope)
            p.mul_(1 - group["lr"] * group["weight_decay"])
        factor = max((group["lr"] / group["peak_lr"] for group in self.param_groups if group["peak_lr"]), default=0.0)
        moved = state.setdefault("moved", [0.0] * method.seeds)
        moved[seed] += factor * slope
