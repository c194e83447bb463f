"""Small whole numbers in as few bytes as their bits need."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pack(codes: Tensor, bits: int) -> Tensor:
    """Numbers below 2^bits (uint8 [n]) as uint8 [ceil(n bits / 8)]; bits 1 to 8."""
    if 8 % bits == 0:
        rows = F.pad(codes, (0, -len(codes) % (8 // bits))).view(-1, 8 // bits).int()
        return (rows << _shifts(8 // bits, bits, codes)).sum(1).to(torch.uint8)
    single = (codes[:, None] >> _shifts(bits, 1, codes)) & 1
    return pack(single.flatten().to(torch.uint8), 1)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` numbers of `pack`, uint8."""
    if 8 % bits == 0:
        return ((packed[:, None] >> _shifts(8 // bits, bits, packed)) & (2**bits - 1)).flatten()[:count]
    single = unpack(packed, 1, count * bits).view(-1, bits)
    return (single << _shifts(bits, 1, packed)).sum(1).to(torch.uint8)


def _shifts(count: int, step: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=torch.uint8, device=like.device) * step
