"""One low-rank layer for the whole family: y = layer(x) + scale * B A dropout(x)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class _Added(torch.autograd.Function):
    """base + scale * x A^T B^T, written into `base`: five small products forward and backward, and nothing kept but
    x and x A^T. Base [..., out] and x [..., in]; the products run in base's dtype, A and B are float32."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        dtype = base.dtype
        rows, down, up = x.to(dtype).flatten(0, -2), down.to(dtype), up.to(dtype)
        low = rows @ down.T
        base.view(-1, base.shape[-1]).addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(rows, low, down, up)
        ctx.scale, ctx.x = scale, (x.shape, x.dtype)
        ctx.mark_dirty(base)
        return base

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = incoming
        rows, low, down, up = ctx.saved_tensors
        shape, dtype = ctx.x
        out = gradient.reshape(-1, gradient.shape[-1])
        inner = (out @ up).mul_(ctx.scale)
        at_x = (inner @ down).view(shape).to(dtype) if ctx.needs_input_grad[1] else None
        return gradient, at_x, (inner.T @ rows).float(), (out.T @ low).float().mul_(ctx.scale), None


class LowRankLayer(nn.Module):
    """A frozen linear layer with a trained update of low rank.

    y = base(x) + scale * (dropout(x) @ A^T) @ B^T, with `down` A [rank, in] and `up` B [out, rank] in float32; the
    product runs in the dtype of x. `enabled` False computes the base alone. `Conv1D` keeps its weight as [in, out].
    """

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(down.to(torch.float32))
        self.up = nn.Parameter(up.to(torch.float32))
        self.scale = scale
        self.dropout = dropout
        self.enabled = True
        self._unmerged: Tensor | None = None
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        """The base layer's weight; code that looks at a linear layer's dtype or device finds it here."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias, if any."""
        return self.base.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        base: Tensor = self.base(x)
        if not self.enabled or self._unmerged is not None:
            return base
        inner = torch.nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x
        added: Tensor = _Added.apply(base, inner, self.down, self.up, self.scale)
        return added

    @property
    def merged(self) -> bool:
        """Whether the update is in the base weight now."""
        return self._unmerged is not None

    def delta(self) -> Tensor:
        """scale * B A in the base weight's layout, float32."""
        delta = self.scale * (self.up @ self.down)
        return delta.T if isinstance(self.base, Conv1D) else delta

    def merge(self) -> None:
        """Adds the update to the base weight (summed in float32, rounded once); the old weight is kept aside."""
        if self._unmerged is None:
            with torch.no_grad():
                self._unmerged = self.weight.data
                self.weight.data = (self._unmerged.float() + self.delta()).to(self._unmerged.dtype)

    def unmerge(self) -> None:
        """Puts the old weight back, bit for bit."""
        if self._unmerged is not None:
            self.weight.data = self._unmerged
            self._unmerged = None
