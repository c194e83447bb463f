"""NF4: 4-bit NormalFloat with quantized scales, the base of QLoRA."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import ClassVar

import torch
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.models.quantize import _blockwise
from tunewright.models.quantize._blockwise import Blocks, dynamic_map, normal_float
from tunewright.models.quantize._layer import Stored
from tunewright.models.quantize._packed import pack
from tunewright.models.quantize.base import Quantizer

SCALE_BLOCK = 256
"""Scales that share one constant."""

KERNEL_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Blocks that the kernels of bitsandbytes know."""


class NF4(Quantizer):
    """Stores weights as 4-bit quantiles of a normal distribution, one scale per block, the scales in 8 bits.

    In blocks of 64 weights along the rows, code = nearest of 16 levels to w / absmax. Double quantization: the absmax
    values less their mean, in blocks of 256, as the nearest of 256 values of a signed dynamic map times one float32
    constant: 4 + 8/64 + 32/(64 x 256) = 4.127 bits per weight instead of 4.5. W is restored in every pass; it has no
    gradient. With `adapter: lora` this is QLoRA.

    The packed bytes are laid out as those of bitsandbytes. On a GPU where it is installed (`pip install
    'tunewright[gpu]'`) its kernel restores W, for blocks that are a power of two from 32 to 4096; the levels of the two
    agree to 1.2e-7.

    When to use: the model does not fit in 16 bits. When not: it fits; restoring costs time in both passes.
    """

    name: ClassVar[str] = "nf4"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="QLoRA: Efficient Finetuning of Quantized LLMs", arxiv="2305.14314", card=85),
    )

    block: int = option(64, "Weights that share a scale.", changes="loss", to=16, ge=2)
    double_quant: bool = option(True, "Store the scales in 8 bits instead of float32.", changes="loss", to=False)

    def store(self, weight: Tensor) -> StoredLevels:
        return StoredLevels(_blockwise.quantize(weight, _blockwise.nf4(), self.block), self.double_quant)


class StoredLevels(Stored):
    """Packed 4-bit codes [ceil(n / 2)] and the scales of their blocks: float32, or 8-bit codes with constants."""

    packed: Tensor

    def __init__(self, blocks: Blocks, double_quant: bool) -> None:
        super().__init__()
        self.shape, self.block, self.double_quant = blocks.shape, blocks.block, double_quant
        self.register_buffer("packed", pack(blocks.codes, 4))
        if not double_quant:
            self.register_buffer("scales", blocks.scales)
            return
        mean = blocks.scales.mean()
        inner = _blockwise.quantize(blocks.scales - mean, dynamic_map(), SCALE_BLOCK)
        self.register_buffer("mean", mean)
        self.register_buffer("scale_codes", inner.codes)
        self.register_buffer("constants", inner.scales)

    def restored(self) -> Tensor:
        if self.packed.is_cuda and self.block in KERNEL_BLOCKS and _kernels():
            return self.by_kernel()
        return _blockwise.restored(self.packed, 4, self._scales(), self.shape, self.block)

    def by_kernel(self) -> Tensor:
        """The same by the kernel of bitsandbytes, whose levels are these to 1.2e-7."""
        from bitsandbytes.functional import QuantState, dequantize_4bit

        levels = normal_float(4, self.packed.device)
        state = QuantState(self._scales(), self.shape, levels, self.block, quant_type="nf4", dtype=torch.float32)
        found: Tensor = dequantize_4bit(self.packed[:, None], state)
        return found

    def _scales(self) -> Tensor:
        if not self.double_quant:
            return self.get_buffer("scales")
        codes = self.get_buffer("scale_codes")
        inner = Blocks(codes, self.get_buffer("constants"), codes.shape, SCALE_BLOCK)
        return _blockwise.dequantize(inner, dynamic_map(device=codes.device)).add_(self.get_buffer("mean"))


@cache
def _kernels() -> bool:
    return find_spec("bitsandbytes") is not None
