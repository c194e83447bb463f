"""Random numbers that belong to a token: the same whatever stands beside it in a batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.data.batches import Batch

_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def uniform(batch: Batch, seed: int, step: int, stream: int = 0) -> Tensor:
    """Numbers in [0, 1) float32 [rows, width], a hash of (seed, step, stream, sequence, position).

    `stream` tells several draws of one method apart; padding is drawn too.
    """
    number = np.maximum(batch.sequence.cpu().numpy(), 0)
    at = np.stack([batch.indices.cpu().numpy()[number], batch.positions.cpu().numpy()]).astype(np.uint64)
    with np.errstate(over="ignore"):
        state = _mixed(np.full(at.shape[1:], seed, dtype=np.uint64))
        for part in (np.uint64(step), np.uint64(stream), at[0], at[1]):
            state = _mixed(state + part)
    drawn = (state >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return torch.from_numpy(drawn).to(batch.ids.device)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One round of the SplitMix64 generator."""
    state = state + _STEP
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
