"""Attention in float32 where the processor's short-format kernel is slow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "tunewright_float32"


def use_float32(model: Any) -> None:
    """Makes a transformers model compute softmax(q k^T) v in float32; everything around keeps its format.

    On a CPU the backward pass of bfloat16 attention takes several times as long as float32's, casts included.
    Models whose attention is not switchable stay as they are.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        if mask is not None and mask.is_floating_point():
            mask = mask.float()
        with torch.autocast(query.device.type, enabled=False):
            out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
        return out.to(value.dtype), None

    if model.config._attn_implementation == "sdpa":
        ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
