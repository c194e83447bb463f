"""Cross-entropy times the probability of the token, and a token function held near another model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tunewright.models.policy import CrossEntropy
from tunewright.objectives._divergences import DIVERGENCES, Closed, Direction


class WeightedByItself(Closed):
    """sg(p) (-log p) of the target, with gradient p (softmax - onehot): that of -p."""

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        log = torch.log_softmax(logits, -1, dtype=torch.float32)
        own = log.gather(-1, targets[:, None])
        chance = own.exp()
        softmax = log.exp_()
        softmax.scatter_add_(-1, targets[:, None], softmax.new_full((len(targets), 1), -1.0))
        return -(chance * own)[:, 0], softmax.mul_(chance).to(logits.dtype)


class Anchored(Closed):
    """`token` plus `weight` times the divergence from the logits of `beside` it."""

    def __init__(self, token: Closed | CrossEntropy, weight: float, direction: Direction, beside: str) -> None:
        self.token, self.weight, self.divergence, self.beside = token, weight, DIVERGENCES[direction], beside

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        values, gradient = self.token.gradient(logits.float(), targets, columns)
        policy, other = (torch.log_softmax(x, -1, dtype=torch.float32) for x in (logits, columns[self.beside]))
        away, pull = self.divergence(policy, other)
        return values + self.weight * away, (gradient + self.weight * pull).to(logits.dtype)


weighted_by_itself = WeightedByItself()
