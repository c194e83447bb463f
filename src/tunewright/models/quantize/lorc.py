"""LoRC: quantized weights with a low-rank correction."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tunewright.catalog import Paper, option
from tunewright.models.quantize._layer import Stored
from tunewright.models.quantize._packed import pack, unpack
from tunewright.models.quantize.base import Quantizer


class LoRC(Quantizer):
    """Rounds weights to few bits in groups along each row, and stores the largest part of the error as two thin matrices.

    Wq by rounding to nearest, with one scale (and zero point) per `group` weights of a row; E = W - Wq = U S V^T;
    the restored weight is Wq + (U_m sqrt(S_m)) (sqrt(S_m) V_m^T) with m = `rank`, the factors in 16 bits. Its squared
    error is the sum of the squared singular values beyond m. Overhead m (out + in) numbers per matrix. Rank 0 is plain
    rounding; the largest rank restores W up to the factors' rounding.

    When to use: 4 bits or fewer with coarse groups, where plain rounding loses quality. When not: small matrices,
    where the factors outweigh the codes.
    """

    name: ClassVar[str] = "lorc"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="ZeroQuant-V2: Exploring Post-training Quantization in LLMs from Comprehensive Study to Low Rank Compensation",
            arxiv="2303.08302",
            card=199,
        ),
    )

    bits: int = option(4, "Bits per weight.", changes="loss", to=3, ge=2, le=8)
    group: int = option(128, "Weights of a row that share a scale; the last group may be shorter.", changes="loss", to=8, ge=2)  # fmt: skip
    symmetric: bool = option(False, "Levels around zero instead of between smallest and largest.", changes="loss", to=True)  # fmt: skip
    rank: int = option(8, "Rank of the correction.", changes="loss", to=0, ge=0)
    factors: Literal["float16", "float32"] = option("float16", "How the two factors are stored.", changes="loss", to="float32")  # fmt: skip

    def store(self, weight: Tensor) -> StoredGroups:
        plain = StoredGroups(weight, self.bits, self.group, self.symmetric)
        if self.rank:
            u, s, v = torch.linalg.svd(weight.float() - plain.restored(), full_matrices=False)
            root = s[: self.rank].sqrt()
            dtype = getattr(torch, self.factors)
            plain.register_buffer("up", (u[:, : self.rank] * root).to(dtype))
            plain.register_buffer("down", (root[:, None] * v[: self.rank]).to(dtype))
        return plain


class StoredGroups(Stored):
    """Packed codes of a matrix [out, in], scale and zero point float16 [out, groups], and the correction's factors."""

    packed: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, bits: int, group: int, symmetric: bool) -> None:
        super().__init__()
        self.bits, self.symmetric, self.shape = bits, symmetric, weight.shape
        self.group = min(group, weight.shape[1])
        groups = _grouped(weight.float(), self.group)
        if symmetric:
            top = 2 ** (bits - 1) - 1
            scale = (groups.abs().amax(-1, keepdim=True) / top).half().float()
            codes = (groups / _safe(scale)).round().clamp(-top, top) + top
        else:
            low = groups.amin(-1, keepdim=True).half().float()
            scale = ((groups.amax(-1, keepdim=True) - low) / (2**bits - 1)).half().float()
            codes = ((groups - low) / _safe(scale)).round().clamp(0, 2**bits - 1)
            self.register_buffer("lows", low[..., 0].half())
        self.register_buffer("scales", scale[..., 0].half())
        self.register_buffer("packed", pack(codes.to(torch.uint8).flatten(), bits))

    def restored(self) -> Tensor:
        count = self.scales.numel() * self.group
        codes = unpack(self.packed, self.bits, count).view(*self.scales.shape, self.group).float()
        scale = self.scales.float()[..., None]
        if self.symmetric:
            groups = (codes - (2 ** (self.bits - 1) - 1)) * scale
        else:
            groups = codes * scale + self.get_buffer("lows").float()[..., None]
        weight = groups.flatten(1)[:, : self.shape[1]]
        buffers = dict(self.named_buffers())
        return weight + buffers["up"].float() @ buffers["down"].float() if "up" in buffers else weight


def _grouped(weight: Tensor, group: int) -> Tensor:
    """[out, in] as [out, groups, group]; a short last group repeats its last weight, which moves no extreme."""
    short = -weight.shape[1] % group
    return F.pad(weight[:, None], (0, short), mode="replicate")[:, 0].unflatten(1, (-1, group))


def _safe(scale: Tensor) -> Tensor:
    """The scale to divide by: a group of equal weights has scale 0 and code 0."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))
