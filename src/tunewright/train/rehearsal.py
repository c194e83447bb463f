"""The first seconds of a run: its largest batch, a step and a save, tried before anything counts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tunewright.data.batches import Batch, collate, rounded
from tunewright.errors import BadInput, NotFinite, out_of_memory
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Loop
from tunewright.train.memory import high_water, peak_memory

SHAPES = 8
"""Shapes of micro-batches tried besides the largest, to learn what each leaves in memory."""

STEPS = 200
"""Steps of the plan whose shapes are counted."""


@dataclass(frozen=True)
class Rehearsal:
    """What the trial measured: peak resident memory in bytes, and seconds per training token.

    The memory is what was seen and, where a processor keeps a compiled kernel for every shape of a micro-batch, what the
    plan's shapes that were not tried will leave if each leaves as much as those that were. The time is that of one step.
    `longer` is what a longer trial, which goes on from there, measured: with full evaluations and more steps.
    """

    peak_memory_bytes: int
    seconds_per_token: float
    longer: Rehearsal | None = None


def rehearse(
    loop: Loop,
    scratch: Path,
    others: Sequence[Callable[[], object]] = (),
    further: Sequence[Callable[[], object]] = (),
    seconds: float = 0.0,
) -> Rehearsal:
    """Tries what the run will do: a save, the largest micro-batch and a step, and `others` (evaluation, generation).

    An optimizer step of the plan is timed. With `seconds`, a longer trial goes on with what is `further` done, and as
    many steps as fill them. Weights, optimizer, position and random state are put back from the save that was tried;
    hooks are not called. Raises `BadInput` when memory or disk do not suffice: nothing is put back then, which could
    need memory again.
    """
    hooks = loop.hooks
    try:
        write_folder(scratch, *pack(loop))
        loop.hooks = []
        _largest_step(loop)
        for other in others:
            other()
        kept = _left_by_shapes(loop)
        # What shapes leave comes on top of what training takes; what was needed before it may have been more.
        found = Rehearsal(seconds_per_token=_timed(loop), peak_memory_bytes=max(peak_memory(), high_water() + kept))
        if seconds:
            for one in further:
                one()
            pace = _timed(loop, seconds) if loop.state.step < loop.total else found.seconds_per_token
            found = replace(found, longer=Rehearsal(max(peak_memory(), high_water() + kept), pace))
        loop.optimizer.state.clear()
        loop.optimizer.zero_grad(set_to_none=True)
        loop.hooks = hooks
        unpack(loop, scratch)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise BadInput(
            f"the largest batch does not fit into memory: {(str(error).splitlines() or ['none is left'])[0]}",
            field="train.micro_batch_tokens",
            found=loop.settings.micro_batch_tokens,
            hint="Lower it, lower data.max_length, or set train.activation_checkpointing: true.",
        ) from None
    finally:
        loop.hooks = hooks
        shutil.rmtree(scratch, ignore_errors=True)
    return found


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
    _there_and_back(loop, largest(loop))
    for p in loop.trained:
        if p.grad is None and loop.world.size > 1:
            p.grad = torch.zeros_like(p)
    for group in loop.optimizer.param_groups:
        group["lr"] = 0.0
    loop.optimizer.step()
    loop.optimizer.zero_grad(set_to_none=True)


def _there_and_back(loop: Loop, batch: Batch) -> None:
    [batch] = loop.prepared(0, [batch])
    loss = loop.losses(batch)
    if not torch.isfinite(loss.total):
        raise NotFinite("the loss of the longest records is not finite before any training")
    if loss.total.requires_grad:
        loss.total.backward()


def _left_by_shapes(loop: Loop) -> int:
    """Bytes that shapes of the plan's micro-batches will leave in memory beyond the few that are tried here.

    Only a width that is rounded up tells of kernels kept per shape. The number tried does not depend on time, so that
    processes which exchange weights do the same.
    """
    settings = loop.settings
    if settings.width_multiple == 1:
        return 0
    shapes: dict[tuple[int, int], Batch] = {}
    for step in range(min(STEPS, loop.total)):
        for group in loop.groups(loop.plan.step(step)):
            width = rounded(int(loop.table.lengths[group].max()), settings.width_multiple)
            if (len(group), width) not in shapes:
                packed = settings.layout == "packed"
                shapes[len(group), width] = collate(loop.table, group, packed, settings.pad, settings.width_multiple)
    order = sorted(shapes)
    tried = order[:: -(-len(order) // SHAPES)]
    before = high_water()
    for shape in tried:
        _there_and_back(loop, shapes[shape].to(loop.world.device))
        loop.optimizer.zero_grad(set_to_none=True)
    return round((high_water() - before) * (len(order) - len(tried)) / len(tried))


def _timed(loop: Loop, seconds: float = 0.0) -> float:
    """Seconds per token of a step, or of as many as fill `seconds` while there are some."""
    started, tokens = time.perf_counter(), loop.state.tokens
    loop.advance(1)
    while time.perf_counter() - started < seconds and loop.state.step < loop.total:
        loop.advance(1)
    return (time.perf_counter() - started) / max(1, loop.state.tokens - tokens)
