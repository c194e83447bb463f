"""PiSSA: the principal part of the weights trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunewright.adapters.base import LoraExport, LoraPair
from tunewright.adapters.low_rank._family import AttachedLowRank, LowRank
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.models.quantize._layer import QuantizedLinear

OVERSAMPLED = 10
"""Further directions of the randomised decomposition, which make the kept ones accurate."""


class PiSSA(LowRank):
    """Starts A and B as the largest singular part of W, and freezes what is left of W.

    W = U S V^T; with s the scale, B = U_r sqrt(S_r / s), A = sqrt(S_r / s) V_r^T, and the frozen weight is W - s B A
    (in float32, rounded once), so that nothing changes at the start. `niter` takes the randomised decomposition with
    that many power iterations. Exported on the original W as a pair of rank 2r: [A; A_0] and [B, -B_0]. The original
    weights are kept beside the rest, as the reference policy and for `detach`.

    When to use: as `lora`, where the first steps should already move what matters. When not: under a quantized base
    (the residual would have to be quantized, not W), or where a second copy of the weights does not fit.
    """

    name: ClassVar[str] = "pissa"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models",
            arxiv="2404.02948",
            card=122,
        ),
    )

    niter: int | None = option(
        None, "Power iterations of the randomised decomposition; exact when not set.", changes="loss", to=1, ge=0
    )

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        return {"quantizer": frozenset({"keeps the original weight"})}

    def start(self, layer: nn.Module, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        if isinstance(layer, QuantizedLinear):
            raise BadInput("pissa splits the weight itself, which is quantized", field="adapter", expected="lora")
        weight = QuantizedLinear.original(layer)
        if self.niter is None:
            u, s, v = torch.linalg.svd(weight, full_matrices=False)
        else:
            # The same weights must split the same way whenever a saved adapter is put on them.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                u, s, right = torch.svd_lowrank(weight, q=min(rank + OVERSAMPLED, *weight.shape), niter=self.niter)
            v = right.T
        u, s, v = u[:, :rank], s[:rank], v[:rank]
        root = (s / scale).sqrt()
        down, up = root[:, None] * v, u * root
        rest = weight - scale * up @ down
        own: Any = layer.weight
        own.data = (rest.T if isinstance(layer, Conv1D) else rest).to(own.dtype).contiguous()
        return down, up

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedPiSSA:
        originals = {id(parameter): parameter.data for parameter in model.parameters()}
        attached = super().attach(model, supplies)
        return AttachedPiSSA(attached, originals)


class AttachedPiSSA(AttachedLowRank):
    """Low-rank layers over what is left of the weights; holds the whole ones and the pairs it began with."""

    def __init__(self, attached: AttachedLowRank, originals: Mapping[int, Tensor]) -> None:
        super().__init__(attached.model, attached.method, attached.layers, attached.whole)
        self.originals = {name: originals[id(layer.weight)] for name, layer in self.layers.items()}
        self.first = {n: (x.down.detach().clone(), x.up.detach().clone()) for n, x in self.layers.items()}

    def detach(self) -> None:
        super().detach()
        for name, layer in self.layers.items():
            layer.weight.data = self.originals[name]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        with super().disabled():
            rest = {name: layer.weight.data for name, layer in self.layers.items()}
            for name, layer in self.layers.items():
                layer.weight.data = self.originals[name]
            try:
                yield
            finally:
                for name, layer in self.layers.items():
                    layer.weight.data = rest[name]

    def as_lora(self) -> LoraExport:
        export = super().as_lora()
        power = 0.5 if export.rank_stabilized else 1.0
        pairs = {}
        for name, layer in self.layers.items():
            first = self.first[name]
            down, up = torch.cat([layer.down.detach(), first[0]]), torch.cat([layer.up.detach(), -first[1]], 1)
            if down.shape[0] > min(down.shape[1], up.shape[0]):
                down, up = _thinner(down, up)
            pairs[name] = LoraPair(down, up, layer.scale * down.shape[0] ** power)
        return replace(export, pairs=pairs)


def _thinner(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """A pair with the same product whose rank is the smaller side of the product."""
    u, s, v = torch.linalg.svd(up.double() @ down.double(), full_matrices=False)
    return (s.sqrt()[:, None] * v).to(down.dtype), (u * s.sqrt()).to(up.dtype)
