"""Small whole numbers in as few bytes as their bits need."""

from __future__ import annotations

from math import lcm

import torch
from torch import Tensor
from torch.nn import functional as F


def pack(codes: Tensor, bits: int) -> Tensor:
    """Numbers below 2^bits (uint8 [n]) as uint8 [ceil(n bits / 8)], the first in the highest bits; bits 1 to 8."""
    numbers, width = _word(bits)
    words = (_rows(codes, numbers, width) << _shifts(numbers, bits, codes)).sum(1)
    packed = ((words[:, None] >> _shifts(width, 8, codes)) & 255).to(torch.uint8).flatten()
    return packed[: -(-len(codes) * bits // 8)]


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` numbers of `pack`, uint8."""
    numbers, width = _word(bits)
    if width == 1:
        codes = (packed[:, None] >> _shifts(numbers, bits, packed).to(torch.uint8)) & (2**bits - 1)
    else:
        words = (_rows(packed, width, width) << _shifts(width, 8, packed)).sum(1)
        codes = ((words[:, None] >> _shifts(numbers, bits, packed)) & (2**bits - 1)).to(torch.uint8)
    return codes.flatten()[:count]


def _word(bits: int) -> tuple[int, int]:
    """How many numbers fill how many bytes without a rest."""
    return lcm(bits, 8) // bits, lcm(bits, 8) // 8


def _rows(values: Tensor, length: int, width: int) -> Tensor:
    """[rows, length], filled up with zeros, as integers that hold a word of `width` bytes."""
    rows = F.pad(values, (0, -len(values) % length)).view(-1, length)
    return rows.to(torch.int32 if width < 4 else torch.int64)


def _shifts(count: int, step: int, like: Tensor) -> Tensor:
    return torch.arange(count - 1, -1, -1, device=like.device) * step
