"""Weights as codes of a small table with one scale per block (arXiv 2305.14314)."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from scipy.stats import norm
from torch import Tensor

from tunewright.models.quantize._packed import unpack

BLOCK = 64

FEW = 15
"""Up to so many thresholds are counted faster one by one than searched for every value."""

_OFFSET = 0.9677083


def nf4() -> Tensor:
    """The 16 values of 4-bit NormalFloat, float32 in [-1, 1] and rising: quantiles of N(0, 1) with an exact zero.

    Positive ones are Phi^-1 of 9 points from 0.9677083 to 0.5 without the last, negative ones -Phi^-1 of 8 such points
    without the last, all divided by the largest.
    """
    return normal_float(4)


@cache
def normal_float(bits: int, device: torch.device | str = "cpu") -> Tensor:
    """The same with 2^bits values: 2^(bits-1) positive ones and one fewer negative ones."""
    quantiles = lambda n: torch.from_numpy(norm.ppf(torch.linspace(_OFFSET, 0.5, n, dtype=torch.float64)[:-1].numpy()))
    half = 2 ** (bits - 1)
    values = torch.cat([quantiles(half + 1), -quantiles(half), torch.zeros(1, dtype=torch.float64)]).sort().values
    return (values / values.max()).float().to(device)


def fp4() -> Tensor:
    """The 15 different values of 4-bit floating point with two exponent bits and one of mantissa, over the largest."""
    positive = torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    return torch.cat([-positive.flip(0), torch.zeros(1), positive]) / 6.0


def uniform4() -> Tensor:
    """The 15 evenly spaced values k / 7, k = -7 to 7, of symmetric 4-bit integers."""
    return torch.arange(-7, 8) / 7.0


@cache
def dynamic_map(signed: bool = True, device: torch.device | str = "cpu") -> Tensor:
    """The 256 rising values of dynamic 8-bit numbers, float32 in (-1, 1] or, unsigned, in [0, 1].

    For i = 0 .. 6 the midpoints of 2^i equal cells of [0.1, 1] (2^(i+1) without sign) times 10^(i - 6), with both signs
    where there are signs, then 0 and 1.
    """
    parts = []
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1, dtype=torch.float64)
        parts.append((edges[1:] + edges[:-1]) / 2 * 10.0 ** (i - 6))
    positive = torch.cat([*parts, torch.ones(1, dtype=torch.float64)])
    negative = -torch.cat(parts) if signed else positive[:0]
    return torch.cat([negative, torch.zeros(1, dtype=torch.float64), positive]).sort().values.float().to(device)


class Blocks(NamedTuple):
    """`codes` uint8 [n], the place in the table of each weight; `scales` float32 [ceil(n / block)]; the tensor's shape."""

    codes: Tensor
    scales: Tensor
    shape: torch.Size
    block: int


def quantize(weight: Tensor, table: Tensor, block: int = BLOCK) -> Blocks:
    """The nearest table value of weight / absmax in every block of `block` weights, row by row.

    The last block may be shorter; a block of zeros has scale 0. Raises `ValueError` for weights that are not finite.
    """
    flat = weight.detach().float().reshape(-1)
    if not torch.isfinite(flat).all():
        raise ValueError("weights that are not finite cannot be quantised")
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    scales = padded.abs().amax(1)
    unit = padded / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return Blocks(nearest(unit.reshape(-1)[: len(flat)], table.to(unit.device)), scales, weight.shape, block)


def nearest(values: Tensor, table: Tensor) -> Tensor:
    """The places uint8 [n] in a rising table of the values that are nearest; of two as near, the lower one."""
    middle = (table[1:] + table[:-1]) / 2
    if len(middle) > FEW:
        return torch.bucketize(values.contiguous(), middle, out_int32=True).to(torch.uint8)
    places = torch.zeros(values.shape, dtype=torch.uint8, device=values.device)
    for one in middle:
        places += (values > one).view(torch.uint8)
    return places


def dequantize(blocks: Blocks, table: Tensor) -> Tensor:
    """table[code] * scale of the block, float32 in the tensor's shape."""
    values = table.to(blocks.codes.device).index_select(0, blocks.codes.int())
    return scaled(values, blocks.scales, blocks.block).view(blocks.shape)


def restored(packed: Tensor, bits: int, scales: Tensor, shape: torch.Size, block: int) -> Tensor:
    """The same of packed codes of NormalFloat levels."""
    count = shape.numel()
    if 8 % bits == 0:
        values = _spelled(bits, packed.device).index_select(0, packed.int()).view(torch.float32)[:count]
    else:
        values = normal_float(bits, packed.device).index_select(0, unpack(packed, bits, count).int())
    return scaled(values, scales, block).view(shape)


def scaled(values: Tensor, scales: Tensor, block: int) -> Tensor:
    """Values [n] times the scale of their block, in place."""
    full = len(values) // block
    values[: full * block].view(-1, block).mul_(scales[:full, None])
    values[full * block :].mul_(scales[full:])
    return values


@cache
def _spelled(bits: int, device: torch.device) -> Tensor:
    """The levels that each of the 256 bytes stands for; they are one number of as many bytes, which is found faster."""
    bytes = torch.arange(256, dtype=torch.uint8)
    wide = {1: torch.float32, 2: torch.float64, 4: torch.complex128}[8 // bits]
    return normal_float(bits)[unpack(bytes, bits, 256 * 8 // bits).long()].view(wide).to(device)
