"""One job of a comparison, done: a recipe trained within its budget and measured, nothing else written."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from tunewright.comparison.jobs import Job, Result
from tunewright.comparison.kept import Kept
from tunewright.comparison.rows import with_tuning_rows
from tunewright.costs import flops_of, training_flops
from tunewright.data.batches import Plan
from tunewright.errors import BadInput, NotFinite
from tunewright.evaluate.base import Scores, Subject, Task
from tunewright.evaluate.measure import measure, names
from tunewright.pipeline import Assembly, assemble, build_loop
from tunewright.recipe import Recipe
from tunewright.train.hooks import Hook
from tunewright.train.loop import Loop, Step
from tunewright.train.processes import World

EVALUATIONS = 20
"""Measurements along the way where a target is waited for and their distance is not given."""

PACE_SECONDS, PACE_STEPS, WARM_UP = 5.0, 8, 2
"""A pace is the median of at least so many seconds or steps, whichever ends first, after the first steps."""

WATTS = 10.0
"""Power of a processor core at work, for the energy estimate."""


def perform(job: Job, kept: Kept) -> Result:
    """Does the job. Raises `BadInput` as a run would; a loss that is not finite is a result of its own."""
    started = time.perf_counter()
    _forget_peak()
    recipe = Recipe.of(**job.recipe)
    world = World.join()
    data = kept.data(recipe)
    if job.kind == "tune" and job.rows is not None:
        data = with_tuning_rows(data, recipe, job.rows)
    assembly = assemble(recipe, world, data=data, loaded=kept.base(recipe, world))
    if job.kind == "base":
        with assembly.attached.disabled():
            return Result(job.key, tuple(measure(assembly.subject(), recipe.evaluate)), cost=_cost(started))
    assembly = replace(assembly, plan=_planned(job, assembly))
    with tempfile.TemporaryDirectory() as scratch:
        loop = build_loop(assembly, Path(scratch), record=False)
        if job.kind == "count":
            return Result(job.key, cost={"tokens": float(_tokens(loop.plan, loop.total)), "steps": float(loop.total)})
        if job.kind == "pace":
            return Result(job.key, cost={"seconds_per_step": _pace(loop)})
        return _trained(job, assembly, loop, started)


def _trained(job: Job, assembly: Assembly, loop: Loop, started: float) -> Result:
    clock = Clock(job.limit[1] * job.share) if job.limit is not None and job.limit[0] == "seconds" else None
    course = (
        Course(job.every or max(1, loop.total // EVALUATIONS), lambda: _judged(job, assembly))
        if job.every != 0
        else None
    )
    loop.hooks = [*loop.hooks, *(hook for hook in (clock, course) if hook is not None)]
    try:
        loop.run()
    except NotFinite as fault:
        return Result(job.key, cost=_cost(started, assembly, loop), failed=str(fault))
    tasks = assembly.recipe.evaluate
    scores = [_judged(job, assembly)] if job.kind == "tune" else measure(assembly.subject(), tasks)
    cut = clock is not None and loop.state.step < loop.total
    return Result(job.key, tuple(scores), tuple(course.points) if course else (), _cost(started, assembly, loop), cut)


def _judged(job: Job, assembly: Assembly) -> Scores:
    """The scores on the judged measure alone; of a tuning trial, on the tuning rows whatever rows the task names."""
    tasks = [task for task in assembly.recipe.evaluate if isinstance(task, Task)]
    task = dict(zip(names(tasks), tasks, strict=True))[str(job.measure)]
    if job.kind == "tune" and job.rows is not None:
        task = task.model_copy(update={"data": None, "format": None, "fields": {}, "labels": {}})
    subject: Subject = assembly.subject()
    if (reason := task.omitted(subject)) is not None:
        raise BadInput(f"the measure cannot be taken: {reason}", field="measure", found=job.measure)
    return replace(task.score(subject), name=str(job.measure))


def _planned(job: Job, assembly: Assembly) -> Plan:
    """The plan of the steps that the budget allows."""
    plan = assembly.plan
    if job.limit is not None:
        unit, amount = job.limit[0], job.limit[1] * job.share
        if unit == "seconds":
            steps = job.steps if job.steps is not None else 10**6
            return replace(plan, epochs=None, tokens=None, steps=max(1, int(steps * job.share)))
        if unit == "flops":
            weights = assembly.data.train.weights
            predicted = float(np.count_nonzero(weights)) / len(weights)
            amount /= training_flops(assembly.policy, 10**6, round(predicted * 10**6)) / 10**6
        return replace(plan, epochs=None, tokens=None, steps=_steps(plan, amount, job))
    if job.share == 1.0:
        return plan
    return replace(plan, epochs=None, tokens=None, steps=max(1, int(plan.total * job.share)))


def _steps(plan: Plan, tokens: float, job: Job) -> int:
    """The most steps whose tokens do not pass `tokens`."""
    unlimited = replace(plan, epochs=None, steps=None, tokens=max(1, int(tokens)))
    steps = unlimited.total
    steps -= _tokens(unlimited, steps) > tokens
    if steps < 1:
        raise BadInput(
            f"the budget of {job.limit[1]:g} {job.limit[0]} does not pay for one step",  # type: ignore[index]
            field="budget", found=f"{tokens:,.0f} tokens", hint="Raise it, or lower train.tokens_per_step.",
        )  # fmt: skip
    return steps


def _tokens(plan: Plan, steps: int) -> int:
    return sum(int(plan.lengths[plan.step(step)].sum()) for step in range(steps))


def _pace(loop: Loop) -> float:
    """Median seconds of a step."""
    loop.advance(WARM_UP)
    seconds: list[float] = []
    while loop.state.step < loop.total and (len(seconds) < PACE_STEPS or sum(seconds) < PACE_SECONDS):
        before = loop.state.seconds
        loop.advance(1)
        seconds.append(loop.state.seconds - before)
    return median(seconds) if seconds else loop.state.seconds / max(1, loop.state.step)


class Clock(Hook):
    """Ends a run before the step that would pass `seconds` of training, by the longest of the last steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._last = seconds, [0.0] * 4

    def after_step(self, loop: Loop, step: Step) -> None:
        self._last = [*self._last[1:], step.seconds]
        if loop.state.seconds + max(self._last) > self.seconds:
            loop.finished = True


class Course(Hook):
    """Measures every `every` steps and at the last one."""

    def __init__(self, every: int, measured: Callable[[], Scores]) -> None:
        self.every, self.measured = every, measured
        self.points: list[dict[str, float]] = []

    def after_step(self, loop: Loop, step: Step) -> None:
        if step.step % self.every and step.step != loop.total:
            return
        state = loop.state
        value = self.measured().score
        self.points.append({"step": state.step, "tokens": state.tokens, "seconds": state.seconds, "value": value})
        loop.policy.train()


def _cost(started: float, assembly: Assembly | None = None, loop: Loop | None = None) -> dict[str, float | None]:
    cost: dict[str, float | None] = {"wall_seconds": time.perf_counter() - started, "peak_memory_bytes": _peak()}
    if assembly is not None and loop is not None:
        seconds = loop.state.seconds
        cost |= {
            "tokens": float(loop.state.tokens),
            "steps": float(loop.state.step),
            "seconds": seconds,
            "flops": flops_of(loop, assembly),
            "trained_parameters": float(sum(p.numel() for p in assembly.attached.trained().values())),
            "joules": _watts() * seconds,
        }
    return cost


def _watts() -> float:
    """Power in watts: the accelerator's own reading where it gives one, else so much per thread."""
    if torch.cuda.is_available():
        try:
            return torch.cuda.power_draw() / 1000
        except Exception:  # Without NVML's Python package there is no reading.
            return float("nan")
    return WATTS * torch.get_num_threads()


def _forget_peak() -> None:
    """Lets the peak of memory be counted from here on, since a worker lives through many trials."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _peak() -> float:
    """Peak bytes since `_forget_peak`: the accelerator's where there is one, else resident ones."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return next(_high_water(), float("nan"))


def _high_water() -> Iterator[float]:
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            yield float(line.split()[1]) * 1024


def faultless(value: Any) -> Any:
    """NaN and infinity as None, which JSON can hold."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: faultless(item) for key, item in value.items()}
    return [faultless(item) for item in value] if isinstance(value, list) else value
