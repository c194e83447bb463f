"""The low-rank layers of a model, whatever adapter put them there, and norms of their products."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class LowRankPair(Protocol):
    """A layer y = base(x) + scale B A x with `down` A [rank, in] and `up` B [out, rank]."""

    down: nn.Parameter
    up: nn.Parameter
    scale: float
    base: nn.Module
    enabled: bool
    training: bool

    @property
    def weight(self) -> Tensor:
        """The base layer's weight."""


def pairs(model: nn.Module) -> dict[str, LowRankPair]:
    """The low-rank layers by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if all(hasattr(module, part) for part in ("down", "up", "scale", "base"))
    }


def squared_rows(left: Tensor, right: Tensor) -> Tensor:
    """||row_j of left right||^2 [out] for left [out, k] and right [k, in], without the product."""
    return ((left @ (right @ right.T)) * left).sum(1)
