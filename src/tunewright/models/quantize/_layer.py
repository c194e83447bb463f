"""A linear layer whose frozen weight is stored in fewer bits and restored when it is used."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D


class Stored(nn.Module):
    """A matrix in some compressed form; its buffers are all it holds."""

    @abstractmethod
    def restored(self) -> Tensor:
        """The matrix float32 [out, in]."""

    @property
    def bytes(self) -> int:
        """What the buffers take."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())


class QuantizedLinear(nn.Module):
    """y = x W^T + bias with W restored from `stored` in the dtype of x, forward and backward alike.

    The weight has no gradient; the gradient to x flows through the restored weight, which is not kept between the
    passes. `offer` holds B [out, r] and A [r, in] that an adapter may start from.
    """

    def __init__(self, stored: Stored, shape: tuple[int, int], dtype: torch.dtype, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.stored, self.dtype = stored, dtype
        self.out_features, self.in_features = shape
        self.bias = bias
        self.offer: tuple[Tensor, Tensor] | None = None

    @staticmethod
    def original(layer: nn.Module) -> Tensor:
        """The weight of a linear layer (`Conv1D` keeps it transposed) as float32 [out, in]."""
        weight: Tensor = layer.weight.data  # type: ignore[assignment]
        return (weight.T if isinstance(layer, Conv1D) else weight).float()

    @staticmethod
    def of(layer: nn.Module, store: Callable[[Tensor], Stored]) -> QuantizedLinear:
        """The layer with its weight as `store` keeps it."""
        weight = QuantizedLinear.original(layer)
        dtype: torch.dtype = layer.weight.dtype  # type: ignore[assignment]
        made = QuantizedLinear(store(weight), (weight.shape[0], weight.shape[1]), dtype, layer.bias)  # type: ignore[arg-type]
        made.train(layer.training)
        return made

    @property
    def weight(self) -> Tensor:
        """The restored weight [out, in] in the dtype that the layer had."""
        return self.stored.restored().to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Product.apply(x, self)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class _Product(torch.autograd.Function):
    """x W^T; the backward pass restores W again instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None]:
        (gradient,) = incoming
        return gradient @ ctx.layer.weight.to(gradient.dtype), None
