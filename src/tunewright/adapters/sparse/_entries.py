"""A linear layer of which single weights train, and which can note the gradient of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunewright.adapters.sparse._delta import DeltaLayer


class EntriesLayer(DeltaLayer):
    """y = (W + scatter(delta)) x + bias, W frozen, with `delta` [k, 1] at `places` int32 [k] of the flattened weight.

    The sums W + delta are rounded once to the weight's dtype, as merging rounds them. While `watching`, the backward
    pass notes the gradient of the whole weight, or of its `candidates` int32 [k] where these are chosen; `gather` adds
    it to their `total` and its square to `square`, float32 [k].
    """

    def __init__(self, base: nn.Module, places: Tensor) -> None:
        super().__init__(base, (len(places), 1))
        self.places = places.to(self.weight.device, torch.int32)
        self.watching = False
        self.candidates: Tensor | None = None
        self.total: Tensor | None = None
        self.square: Tensor | None = None
        self._noted: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.plain:
            y: Tensor = self.base(x)
            return y
        out: Tensor = _Product.apply(x, self.delta, self)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def part(self) -> Tensor:
        return self.weight.data.view(-1)[self.places.long(), None]

    def write(self, part: Tensor) -> None:
        self.weight.data.view(-1)[self.places.long()] = part[:, 0]

    def changed(self) -> Tensor:
        """The weight [out, in] with the numbers added, without a gradient."""
        weight = self.weight.detach()
        flat, places = weight.reshape(-1).clone(), self.places.long()
        flat[places] = (flat[places].float() + self.delta.detach()[:, 0]).to(flat.dtype)
        changed = flat.view_as(weight)
        return changed.T if self.transposed else changed

    def holds(self, places: Tensor) -> bool:
        """Whether these are different places of the weight, given as whole numbers."""
        whole = not places.is_floating_point() and len(places.unique()) == len(places)
        return whole and bool((places >= 0).all() and (places < self.weight.numel()).all())

    def note(self, gradient: Tensor) -> None:
        """Takes a micro-batch's gradient of the weight [out, in] while watching."""
        if self.watching:
            flat = (gradient.T if self.transposed else gradient).reshape(-1)
            part = (flat if self.candidates is None else flat[self.candidates.long()]).float()
            self._noted = part.clone() if self._noted is None else self._noted.add_(part)

    def gather(self, summed: Callable[[Tensor], Tensor], scale: Tensor) -> None:
        """Ends an update: adds what was noted, `summed` over processes and times `scale`.

        The first time the places of the largest gradients become the candidates.
        """
        size = self.weight.numel() if self.candidates is None else len(self.places)
        noted = torch.zeros(size, device=self.places.device) if self._noted is None else self._noted
        gradient = summed(noted) * scale
        if self.candidates is None or self.total is None or self.square is None:
            best = gradient.abs().topk(len(self.places)).indices
            self.candidates, gradient = best.to(torch.int32), gradient[best]
            self.total, self.square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.total += gradient
        self.square += gradient**2
        self._noted, self.watching = None, False

    def forget(self) -> None:
        """Drops what was gathered."""
        self.candidates = self.total = self.square = self._noted = None
        self.watching = False


class _Product(torch.autograd.Function):
    """x (W + delta)^T; the sum is made again in the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, layer: EntriesLayer) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(x)
        return F.linear(x, layer.changed().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (gradient,), (x,), layer = incoming, ctx.saved_tensors, ctx.layer
        at_x = gradient @ layer.changed().to(gradient.dtype) if ctx.needs_input_grad[0] else None
        rows = gradient.flatten(0, -2)
        at_weight = rows.T @ x.flatten(0, -2).to(rows.dtype)
        layer.note(at_weight)
        kept = at_weight.T if layer.transposed else at_weight
        return at_x, kept.reshape(-1)[layer.places.long(), None].float(), None
