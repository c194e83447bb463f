"""Divergences between the policy's next-token distribution and another model's, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

Direction = Literal["forward", "reverse"]
"""`forward`: KL(other || policy), which covers all the other model says; `reverse`: KL(policy || other), which stays
where the other model puts its mass."""

Divergence = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def forward_kl(policy: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """sum_v q (log q - log p) [n] of log-probabilities [n, vocabulary], and its gradient by p's logits: p - q."""
    q = other.exp()
    return (torch.special.xlogy(q, q) - q * policy).sum(-1), policy.exp() - q


def reverse_kl(policy: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """sum_v p (log p - log q) [n] of log-probabilities [n, vocabulary], and its gradient by p's logits:
    p (log p - log q - KL)."""
    p, gap = policy.exp(), policy - other
    divergence = (p * gap).sum(-1)
    return divergence, p * (gap - divergence[:, None])


DIVERGENCES: Mapping[Direction, Divergence] = {"forward": forward_kl, "reverse": reverse_kl}


class Closed:
    """A per-token function that knows its gradient by the logits: `gradient` gives both, in float32."""

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Values [n] and their gradient with respect to the logits [n, vocabulary]."""
        raise NotImplementedError

    def __call__(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
        values: Tensor = _Closed.apply(logits, self, targets, columns)
        return values


class _Closed(torch.autograd.Function):
    """Autograd around a gradient in closed form, where the head itself trains."""

    @staticmethod
    def forward(ctx, logits, function, targets, columns):  # type: ignore[no-untyped-def]
        values, gradient = function.gradient(logits, targets, columns)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    def backward(ctx, *incoming):  # type: ignore[no-untyped-def]
        (gradient,) = ctx.saved_tensors
        return gradient * incoming[0][:, None].to(gradient.dtype), None, None, None
