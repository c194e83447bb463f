"""What training takes: operations, memory, time; predicted and as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tunewright.models.policy import KERNEL_ROWS, Policy

if TYPE_CHECKING:
    from tunewright.assembly import Assembly
    from tunewright.train.loop import Loop

MICRO_BATCH_TOKENS = 16384
"""Tokens computed at once on a GPU where the recipe does not say."""

MICRO_BATCH_VALUES, FEWEST, MOST = 1 << 19, 512, 1024
"""On a processor: as many tokens as have about so many hidden values, within bounds. Fewer leave its threads waiting
for each other, more take memory and are no faster."""


WATTS = 10.0
"""Power of a processor core at work, for estimates of energy."""


def watts() -> float | None:
    """Power of this process's device at work: an accelerator's own reading where it gives one, else so much per thread."""
    if not torch.cuda.is_available():
        return WATTS * torch.get_num_threads()
    try:
        return torch.cuda.power_draw() / 1000
    except Exception:  # Without NVML's Python package there is no reading.
        return None


def micro_batch_tokens(device: torch.device, width: int) -> int:
    """The micro-batch in tokens for a kind of device and a model of `width` hidden values per token."""
    if device.type != "cpu":
        return MICRO_BATCH_TOKENS
    return min(MOST, max(FEWEST, MICRO_BATCH_VALUES // width))


def width_multiple(device: torch.device, precision: str) -> int:
    """What the width of a micro-batch is rounded up to.

    A processor's short-format products compile a kernel for every new shape, which costs more than some padding.
    """
    return KERNEL_ROWS if device.type == "cpu" and precision == "bf16" else 1


def training_flops(policy: Policy, tokens: int, predicted: int) -> float:
    """Floating-point operations of training on `tokens` tokens of which `predicted` reach the head.

    2 per weight for the forward pass, 2 for the gradient of its input, 2 for its own gradient if it trains; weights of
    the embedding count nothing, those of the head for predicted tokens only.
    """
    head = {id(p) for p in policy.head.parameters()}
    embedding = {id(p) for p in policy.model.get_input_embeddings().parameters()}
    flops = 0.0
    for p in policy.parameters():
        per_token = (6.0 if p.requires_grad else 4.0) * p.numel()
        if id(p) in head:
            flops += per_token * predicted
        elif id(p) not in embedding:
            flops += per_token * tokens
    return flops


def flops_of(loop: Loop, assembly: Assembly) -> float:
    """Operations of the steps a loop has taken."""
    weights = assembly.data.train.weights
    share = float(np.count_nonzero(weights)) / len(weights)
    return training_flops(loop.policy, loop.state.tokens, round(share * loop.state.tokens))
