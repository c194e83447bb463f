"""MeZO: steps from forward passes alone, along directions of a fixed pool of seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunewright.catalog import Paper, option
from tunewright.optimize.optimizers.base import Optimizer


class MeZO(Optimizer):
    """Estimates the slope along one random direction per step from two losses; no gradients, no moments.

    z = N(0, I) drawn from one of `seeds` seeds; g = (L(w + eps z) - L(w - eps z)) / (2 eps); w -= lr g z, then
    decoupled decay. The sum of g per seed is kept, so that without decay w = w0 - lr sum_j moved_j z_j is rebuilt from
    the first weights and `seeds` numbers (`rebuilt`), whatever the size of the model: what clients that tune together
    need to exchange (FedKSeed). A step takes two forward passes, and while it runs a copy of the trained parameters,
    from which they are put back exactly; adding the step back instead would drift (about 1e-5 in 200 steps).

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

    @torch.no_grad()
    def slope(self, working: Sequence[tuple[int, Tensor]], seed: int, loss: Callable[[], float]) -> float | None:
        """g along the seed's direction of parameters, each with its index; they are left as they were.

        None where a step is skipped: for a loss that is not finite, or two that differ by more than `largest_change`.
        """
        before = [value.clone() for _, value in working]
        found = []
        for sign in (1, -1):
            for (index, value), original in zip(working, before, strict=True):
                value.copy_(original).add_(self.direction(value, seed, index), alpha=sign * self.eps)
            found.append(loss())
        for (_, value), original in zip(working, before, strict=True):
            value.copy_(original)
        apart = found[0] - found[1]
        is_used = math.isfinite(apart) and abs(apart) <= (self.largest_change or math.inf)
        return apart / (2 * self.eps) if is_used else None

    def direction(self, like: Tensor, seed: int, index: int) -> Tensor:
        """z of the pool's seed for the `index`-th parameter, drawn in float32, in the parameter's dtype."""
        generator = torch.Generator(like.device)
        generator.manual_seed(((self.pool * self.seeds + seed) << 20) + index)
        return torch.randn(like.shape, generator=generator, device=like.device).to(like.dtype)


def chances(slopes: Sequence[Sequence[float]], clip: float = 1000.0) -> NDArray[np.float64]:
    """With which probability [seeds] to draw each seed, by the slopes found along it so far (FedKSeed-Pro).

    psi_j is the mean of |g| cut at `clip` over the seed's slopes and one 0, brought to [0, 1] by the smallest and
    largest; p = softmax(psi), uniform where all are alike.
    """
    psi = np.array([np.abs(np.clip([0.0, *own], -clip, clip)).mean() for own in slopes])
    spread = psi.max() - psi.min()
    weights: NDArray[np.float64] = np.exp((psi - psi.min()) / spread if spread > 0 else np.zeros(len(psi)))
    return weights / weights.sum()


def exchanged(seeds: int, sent: int) -> int:
    """Bytes that a client receives and sends in a round: a sum per seed, then a seed and a number for each of `sent`."""
    return 4 * seeds + 8 * sent


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
        slope = method.slope([(index, p) for index, _, p in working], seed, closure)
        state["steps"] = steps + 1
        if slope is None:
            return
        for index, group, p in working:
            p.sub_(method.direction(p, seed, index), alpha=group["lr"] * slope)
            p.mul_(1 - group["lr"] * group["weight_decay"])
        factor = max((group["lr"] / group["peak_lr"] for group in self.param_groups if group["peak_lr"]), default=0.0)
        moved = state.setdefault("moved", [0.0] * method.seeds)
        moved[seed] += factor * slope
