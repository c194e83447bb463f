"""Matrices as NormalFloat codes of 2 to 8 bits whose absmax values are stored in 8."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tunewright.models.quantize._blockwise import Blocks, dequantize, nearest, normal_float, restored, scaled
from tunewright.models.quantize._layer import Stored
from tunewright.models.quantize._packed import pack

TINY = torch.finfo(torch.float32).tiny


class Rounded(NamedTuple):
    """NormalFloat codes uint8 [n] of a matrix, and its absmax values: codes uint8 [blocks] times `constants` bfloat16
    (one per 256) over 255, plus `least`."""

    codes: Tensor
    absmax: Tensor
    constants: Tensor
    least: Tensor
    bits: int
    block: int

    @staticmethod
    def of(weight: Tensor, bits: int, block: int) -> Rounded:
        """The nearest level times the absmax as it will be restored, not as it was.

        Raises `ValueError` for weights that are not finite.
        """
        flat = weight.reshape(-1)
        rows = (F.pad(flat, (0, -len(flat) % block)) if len(flat) % block else flat).view(-1, block)
        scales = rows.abs().amax(1)
        if not torch.isfinite(scales).all():
            raise ValueError("weights that are not finite cannot be quantised")
        least = scales.min()
        over = F.pad(scales - least, (0, -len(scales) % 256)).view(-1, 256)
        constants = over.amax(1).to(torch.bfloat16)
        unit = over / constants.float().clamp(min=TINY)[:, None]
        absmax = (unit * 255).round().clamp(0, 255).to(torch.uint8).flatten()[: len(scales)]
        unit = rows / absmax_of(absmax, constants, least).clamp(min=TINY)[:, None]
        codes = nearest(unit.view(-1)[: len(flat)], normal_float(bits, weight.device))
        return Rounded(codes, absmax, constants, least, bits, block)

    def restored(self, shape: torch.Size) -> Tensor:
        """The matrix float32 that the codes stand for."""
        scales = absmax_of(self.absmax, self.constants, self.least)
        return dequantize(Blocks(self.codes, scales, shape, self.block), normal_float(self.bits, self.codes.device))


class StoredNormalFloat(Stored):
    """Packed codes of NormalFloat levels with absmax values in 8 bits."""

    packed: Tensor

    def __init__(self, rounded: Rounded, shape: torch.Size) -> None:
        super().__init__()
        self.bits, self.block, self.shape = rounded.bits, rounded.block, shape
        self.register_buffer("least", rounded.least)
        self.register_buffer("constants", rounded.constants)
        self.register_buffer("absmax", rounded.absmax)
        self.register_buffer("packed", pack(rounded.codes, self.bits))

    def restored(self) -> Tensor:
        scales = absmax_of(*(self.get_buffer(name) for name in ("absmax", "constants", "least")))
        return restored(self.packed, self.bits, scales, self.shape, self.block)


def absmax_of(codes: Tensor, constants: Tensor, least: Tensor) -> Tensor:
    """The absmax values float32 [blocks] as they are restored."""
    return scaled(codes.float().div_(255), constants.float(), 256).add_(least)
