"""The first seconds of a run: its largest batch, a step and a save, tried before anything counts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from tunewright.data.batches import Batch, collate, rounded
from tunewright.errors import BadInput, NotFinite
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Loop


@dataclass(frozen=True)
class Rehearsal:
    """What the trial measured: peak resident memory in bytes, and seconds per training token."""

    peak_memory_bytes: int
    seconds_per_token: float


def rehearse(loop: Loop, scratch: Path, others: Sequence[Callable[[], object]] = (), seconds: float = 0.0) -> Rehearsal:
    """Tries what the run will do: a save, the largest micro-batch and a step, and `others` (evaluation, generation).

    An optimizer step of the plan, or as many as fill `seconds`, are timed. Weights, optimizer, position and random state are put back
    from the save that was tried; hooks are not called. Raises `BadInput` when memory or disk do not suffice.
    """
    tensors, described = pack(loop)
    write_folder(scratch, tensors, described)
    del tensors
    hooks, loop.hooks = loop.hooks, []
    try:
        _largest_step(loop)
        for other in others:
            other()
        seconds_per_token = _timed(loop, seconds)
        peak = peak_memory()
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        raise BadInput(
            f"the largest batch does not fit into memory: {str(error).splitlines()[0]}",
            field="train.micro_batch_tokens",
            found=loop.settings.micro_batch_tokens,
            hint="Lower it, lower data.max_length, or set train.activation_checkpointing: true.",
        ) from None
    finally:
        loop.hooks = hooks
        loop.optimizer.state.clear()
        loop.optimizer.zero_grad(set_to_none=True)
        unpack(loop, scratch)
        shutil.rmtree(scratch)
    return Rehearsal(peak, seconds_per_token)


def largest(loop: Loop) -> Batch:
    """The micro-batch of most computed tokens that the plan can contain: the longest sequences together."""
    lengths = loop.plan.lengths
    settings, multiple = loop.settings, loop.settings.width_multiple
    width = rounded(int(lengths.max()), multiple)
    longest = np.argsort(-lengths, kind="stable")[: max(1, settings.micro_batch_tokens // max(1, width))]
    [group, *_] = loop.groups(longest)
    return collate(loop.table, group, settings.layout == "packed", settings.pad, multiple).to(loop.world.device)


def _largest_step(loop: Loop) -> None:
    loop.policy.train()
    [batch] = loop.prepared(0, [largest(loop)])
    loss = loop.losses(batch)
    if not torch.isfinite(loss.total):
        raise NotFinite("the loss of the longest records is not finite before any training")
    if loss.total.requires_grad:
        loss.total.backward()
    for p in loop.trained:
        if p.grad is None and loop.world.size > 1:
            p.grad = torch.zeros_like(p)
    for group in loop.optimizer.param_groups:
        group["lr"] = 0.0
    loop.optimizer.step()
    loop.optimizer.zero_grad(set_to_none=True)


def _timed(loop: Loop, seconds: float) -> float:
    """Seconds per token of a step, or of as many as fill `seconds` after a first one, which is slower than the rest."""
    if seconds:
        loop.advance(1)
    started, tokens = time.perf_counter(), loop.state.tokens
    loop.advance(1)
    while time.perf_counter() - started < seconds and loop.state.step < loop.total:
        loop.advance(1)
    return (time.perf_counter() - started) / max(1, loop.state.tokens - tokens)


def peak_memory() -> int:
    """The process's peak resident memory in bytes."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peak * (1 if sys.platform == "darwin" else 1024), psutil.Process().memory_info().rss)
