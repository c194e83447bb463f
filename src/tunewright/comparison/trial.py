"""One job of a comparison, done: a recipe trained within its budget and measured, nothing else written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from tunewright.assembly import Assembly, assemble
from tunewright.comparison.jobs import Job, Result
from tunewright.comparison.kept import Kept
from tunewright.comparison.meter import Meter
from tunewright.comparison.phases import end, follow
from tunewright.comparison.pruning import Bar, Growing, hopeless
from tunewright.comparison.rows import with_tuning_rows
from tunewright.costs import training_flops
from tunewright.data.batches import Plan
from tunewright.errors import BadInput, NotFinite
from tunewright.evaluate.base import Scores, Subject, Task
from tunewright.evaluate.measure import measure, names
from tunewright.hooks import Hook
from tunewright.pipeline import build_loop
from tunewright.recipe import Recipe
from tunewright.train.loop import Loop, Step
from tunewright.train.processes import World

EVALUATIONS = 20
"""Measurements along the way where a target is waited for and their distance is not given."""

PACE_SECONDS, PACE_STEPS, WARM_UP = 5.0, 8, 2
"""A pace is the median of at least so many seconds or steps, whichever ends first, after the first steps."""


def perform(job: Job, kept: Kept, folder: Path | None = None) -> Result:
    """Does the job. Raises `BadInput` as a run would; a loss that is not finite is a result of its own.

    `folder` has the checkpoints that trials of several intervals leave and go on from.
    """
    recipe = Recipe.of(**job.recipe)
    world = World.join()
    data = kept.data(recipe)
    kept.ready(recipe, world)
    meter = Meter()
    if job.kind == "tune" and job.rows is not None:
        data = with_tuning_rows(data, recipe, job.rows)
    assembly = assemble(recipe, world, data=data, loaded=kept.base(recipe, world))
    if job.kind == "base":
        with assembly.policy.start():
            return Result(job.key, tuple(measure(assembly.subject(), recipe.evaluate)), cost=meter.read())
    assembly = replace(assembly, plan=_planned(job, assembly))
    with tempfile.TemporaryDirectory() as scratch:
        if job.kind in ("judge", "tune"):
            return _trained(job, assembly, Path(scratch), folder, meter)
        loop = build_loop(assembly, Path(scratch), record=False)
        if job.kind == "count":
            return Result(job.key, cost={"tokens": float(_tokens(loop.plan, loop.total)), "steps": float(loop.total)})
        return Result(job.key, cost={"seconds_per_step": _pace(loop)})


def _trained(job: Job, assembly: Assembly, scratch: Path, folder: Path | None, meter: Meter) -> Result:
    total = assembly.plan.total
    clock = Clock(job.limit[1] * job.share) if job.limit is not None and job.limit[0] == "seconds" else None
    course = None
    if job.every != 0:
        every, measured = job.every or max(1, total // EVALUATIONS), lambda: _judged(job, assembly)
        course = Pruned(every, measured, job.bar) if job.bar else Course(every, measured)
    hooks = [hook for hook in (clock, course) if hook is not None]
    try:
        loop = follow(job, assembly, hooks, scratch, folder)
    except NotFinite as fault:
        return Result(job.key, cost=meter.read(), failed=str(fault))
    tasks = assembly.recipe.evaluate
    scores = [_judged(job, assembly)] if job.kind == "tune" else measure(assembly.subject(), tasks)
    cut = clock is not None and loop.state.step < end(job, total, len(job.trained))
    points, stopped = (course.points, course.stopped) if course else ([], None)
    cut = cut and stopped is None
    return Result(job.key, tuple(scores), tuple(points), meter.read(assembly, loop), cut, stopped=stopped)


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

    def on_start(self, loop: Loop) -> None:
        # An interval may begin where the one before it was cut.
        loop.finished |= loop.state.seconds + loop.state.seconds / max(1, loop.state.step) > self.seconds

    def after_step(self, loop: Loop, step: Step) -> None:
        self._last = [*self._last[1:], step.seconds]
        if loop.state.seconds + max(self._last) > self.seconds:
            loop.finished = True


class Course(Hook):
    """Measures every `every` steps and at the last one."""

    def __init__(self, every: int, measured: Callable[[], Scores]) -> None:
        self.every, self.measured = every, measured
        self.points: list[dict[str, float]] = []
        self.stopped: dict[str, float] | None = None

    def after_step(self, loop: Loop, step: Step) -> None:
        if step.step % self.every and step.step != loop.total:
            return
        state, scores = loop.state, self.measured()
        self.points.append(
            {"step": state.step, "tokens": state.tokens, "seconds": state.seconds, "value": scores.score}
        )
        loop.policy.train()
        self.seen(loop, scores)

    def seen(self, loop: Loop, scores: Scores) -> None:
        """What happens after a measurement."""


class Pruned(Course):
    """Stops the run where its learning curve promises less than that of the best trial did at the same step."""

    def __init__(self, every: int, measured: Callable[[], Scores], bar: Bar) -> None:
        super().__init__(every, measured)
        self.bar = bar
        self._growing: Growing | None = None

    def seen(self, loop: Loop, scores: Scores) -> None:
        self._growing = self._growing or Growing(loop.total)
        step = loop.state.step
        promise = self._growing.promise(step, scores.score, scores)
        if promise is not None and step < loop.total and hopeless(promise, step, self.bar, scores):
            loop.finished = True
            self.stopped = {"share": step / loop.total, "forecast": promise}
