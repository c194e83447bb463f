"""A linear layer of which some rows or columns train."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunewright.adapters.sparse._delta import DeltaLayer
from tunewright.models.layers import shape_of


class SliceLayer(DeltaLayer):
    """A layer of which some rows (`by_rows`) or columns train: y[at] += D x, or y = base(x) + D x[at].

    `delta` D is [k, in] or [out, k]; `channels` int64 [k] are its places in the layer's own order, in which it merges,
    `at` those in the order in which it computes. Without channels it computes the base alone.
    """

    channels: Tensor
    at: slice | Tensor

    def __init__(self, base: nn.Module, by_rows: bool) -> None:
        super().__init__(base, (0, 0))
        self.by_rows = by_rows

    def take(self, channels: Tensor, at: slice | Tensor) -> None:
        """Trains these channels from now on, from a difference of zero."""
        out, width = shape_of(self.base)
        shape = (len(channels), width) if self.by_rows else (out, len(channels))
        self.channels, self.at = channels, at
        self.delta.data = torch.zeros(shape, device=self.weight.device)

    @property
    def plain(self) -> bool:
        return super().plain or not len(self.channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        if self.plain:
            return y
        delta = self.delta.to(y.dtype)
        if self.by_rows:
            y[..., self.at] += F.linear(x.to(y.dtype), delta)
            return y
        # A copy, so that the backward pass keeps the slice and not all of x.
        return y + F.linear(x[..., self.at].to(y.dtype).contiguous(), delta)

    def part(self) -> Tensor:
        matrix = self._matrix()
        return matrix[self.channels] if self.by_rows else matrix[:, self.channels]

    def write(self, part: Tensor) -> None:
        matrix = self._matrix()
        if self.by_rows:
            matrix[self.channels] = part
        else:
            matrix[:, self.channels] = part

    def _matrix(self) -> Tensor:
        return self.weight.data.T if self.transposed else self.weight.data


def spread(units: Tensor, width: int) -> Tensor:
    """The places of units that are `width` wide, in the units' order."""
    return (units[:, None] * width + torch.arange(width)).flatten()
