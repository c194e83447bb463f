"""Training with values that change at equal intervals: the methods are made anew, weights and their state go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tunewright.assembly import Assembly
from tunewright.comparison.jobs import Job, with_values
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.pipeline import build_loop
from tunewright.recipe import Recipe
from tunewright.train.checkpoint import pack, unpack, verify, write_folder
from tunewright.train.loop import Loop


def follow(job: Job, assembly: Assembly, hooks: Sequence[Hook], scratch: Path, folder: Path | None = None) -> Loop:
    """Trains the job's intervals; the loop of the last one, where it ended. `hooks` stand last in every interval.

    With a `folder`, training goes on from the checkpoint of the job's parent where that is whole, else from the start,
    to the same bits; and a job with intervals still to come leaves one. Raises `NotFinite` as the loop does, and
    `BadInput` where an interval would have no step.
    """
    phases, parent = job.trained, _whole(job.parent, folder)
    loop, states, weights = None, list[Any](), dict[str, Tensor]()
    for index in range(len(phases) - 1 if parent else 0, len(phases)):
        fresh = build_loop(_with(assembly, phases[index]), scratch, record=False)
        if loop is not None:
            fresh.state = loop.state
            fresh.attached.load_state(weights)
            fresh.optimizer.state.update(loop.optimizer.state)
            for hook, state in zip(fresh.hooks, states, strict=False):
                hook.load_state(state)
        elif parent is not None:
            unpack(fresh, parent)
        loop = fresh
        loop.hooks = [*loop.hooks, *hooks]
        for hook in loop.hooks:
            hook.on_start(loop)
        loop.advance(end(job, loop.total, index + 1) - loop.state.step)
        # As a checkpoint has them, before hooks put away what they hold, in themselves or on the adapter.
        if index + 1 < len(phases):
            states = [json.loads(json.dumps(hook.state())) for hook in loop.hooks]
            weights = {name: value.clone() for name, value in loop.attached.state().items()}
        if folder is not None and index + 1 == len(phases) < len(job.phases):
            write_folder(job.checkpoint(folder), *pack(loop))
        for hook in loop.hooks:
            hook.on_end(loop)
    assert loop is not None
    return loop


def end(job: Job, total: int, intervals: int) -> int:
    """The step that ends the first `intervals` of a job's intervals, in a run of `total` steps."""
    count = max(1, len(job.phases))
    if total < count:
        raise BadInput("fewer steps than intervals", field="tune.intervals", found=count, expected=f"at most {total}")
    return total * intervals // count


def _with(assembly: Assembly, values: Mapping[str, Any]) -> Assembly:
    if not values:
        return assembly
    recipe = Recipe.of(**with_values(assembly.recipe.plain(), values))
    return replace(assembly, recipe=recipe, settings=replace(assembly.settings, clip=recipe.train.clip))


def _whole(parent: Job | None, folder: Path | None) -> Path | None:
    """The parent's checkpoint; None where there is none to go on from."""
    if parent is None or folder is None:
        return None
    try:
        verify(parent.checkpoint(folder))
    except BadInput:
        return None
    return parent.checkpoint(folder)
