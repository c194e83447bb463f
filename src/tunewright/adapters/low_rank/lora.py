"""LoRA: low-rank adaptation of large language models."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from tunewright.adapters.low_rank._family import LowRank, kaiming
from tunewright.catalog import Paper
from tunewright.models.layers import shape_of


class LoRA(LowRank):
    """Adds a product of two small trained matrices to each frozen linear layer.

    y = W x + (alpha / r) B A x, with A [r, in] uniform in +-1/sqrt(in) and B [out, r] zero, so that nothing changes
    at the start. With `rank_stabilized` the scale is alpha / sqrt(r). When to use: the default; a few percent of the
    parameters train. When not: the data teaches much that is new, where full tuning learns more and forgets more.
    """

    name: ClassVar[str] = "lora"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="LoRA: Low-Rank Adaptation of Large Language Models", arxiv="2106.09685"),
    )

    @property
    def traits(self) -> frozenset[str]:
        return super().traits | {"anchored"}

    def start(self, layer: nn.Module, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        out, width = shape_of(layer)
        return kaiming(rank, width), torch.zeros(out, rank)
