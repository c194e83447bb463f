"""The attention of a transformers model exchanged: for float32 where the processor's short-format kernel is slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

PREFIX = "tunewright_"
"""What the names of attention functions made here begin with."""
FLOAT32 = "float32"
"""What the names of those that compute in float32 end with."""


def install(model: Any, name: str, attend: Callable[..., tuple[Tensor, None]]) -> None:
    """Makes a transformers model call `attend(module, query, key, value, mask, **options)` for its attention.

    Tensors are [rows, heads, n, d], masks bool [rows, 1, n, n] or None where only causality restricts; `attend` returns
    [rows, n, heads, d] and None.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(name, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, sdpa_mask)
    model.set_attn_implementation(name)


def use_float32(model: Any) -> None:
    """Makes a transformers model compute softmax(q k^T) v in float32; everything around keeps its format.

    On a CPU the backward pass of bfloat16 attention takes several times as long as float32's, casts included.
    Models whose attention is not switchable stay as they are.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = model.config._attn_implementation
    if known != "sdpa" and (not str(known).startswith(PREFIX) or known.endswith(FLOAT32)):
        return
    plain = ALL_ATTENTION_FUNCTIONS[known]

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        if mask is not None and mask.is_floating_point():
            mask = mask.float()
        with torch.autocast(query.device.type, enabled=False):
            out, _ = plain(module, query.float(), key.float(), value.float(), mask, **options)
        return out.to(value.dtype), None

    install(model, f"{PREFIX}{FLOAT32}" if known == "sdpa" else f"{known}_{FLOAT32}", attend)
