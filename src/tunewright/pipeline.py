"""The seven stages of a run, in order: read, load, attach, measure, train, measure again, write down."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from safetensors import SafetensorError

import tunewright
from tunewright import hindsight, machine, output
from tunewright.adapters.base import Attached
from tunewright.assembly import EVALUATION_TOKENS, Assembly, assemble
from tunewright.data.order.base import Order
from tunewright.errors import BadInput, nearest
from tunewright.evaluate import fixtures
from tunewright.evaluate.base import Scores, Task
from tunewright.evaluate.during import Watch
from tunewright.evaluate.measure import measure, measured, omitted, with_shots
from tunewright.hooks import Hook
from tunewright.objectives.base import Objective
from tunewright.optimize.layers.base import Layers
from tunewright.optimize.optimizers.base import Optimizer
from tunewright.optimize.schedules.base import Schedule
from tunewright.recipe import Recipe
from tunewright.regularize.base import Regularizer
from tunewright.report.evidence import Evidence
from tunewright.results import evidence_of, hardest_rows, save_adapter, write_report
from tunewright.train.checkpoint import Checkpoints, latest, unpack
from tunewright.train.loop import Loop
from tunewright.train.memory import Phases
from tunewright.train.metrics import Metrics, ProgressBar, check_trackers
from tunewright.train.processes import World
from tunewright.train.rehearsal import Rehearsal, rehearse
from tunewright.train.watchdog import watched
from tunewright.train.weighting import Weighted

PATIENCE = 600.0
"""Seconds that a process of several may go without finishing a step, where the recipe does not say."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what it proved, and the tuned policy."""

    folder: Path
    evidence: Evidence
    assembly: Assembly

    @property
    def verdict(self) -> str:
        """What got better and what got worse, in one sentence."""
        return self.evidence.verdict


def run(recipe: Recipe, folder: Path, *, resume: bool = False, overwrite: bool = False, quiet: bool = False) -> Run:
    """Tunes a model as the recipe says and writes adapter, evidence and report into `folder`.

    Raises `BadInput`, `NotFinite` or `Interrupted`; what an earlier run wrote is kept unless `overwrite`.
    """
    started = datetime.now(UTC)
    world = World.join()
    say = speaker(quiet or not world.main)
    if world.main:
        output.check(folder, recipe, resume=resume, overwrite=overwrite)
        check_trackers(recipe.train.trackers)
    memory = Phases()
    memory.begin("loading")
    assembly = assemble(recipe, world, say)
    _check_watched(assembly)
    tasks = recipe.evaluate
    if tasks:
        memory.begin("measuring before")
    goes_on = recipe.model.adapter is not None and recipe.model.adapter_as == "start"
    with nullcontext() if goes_on else assembly.policy.start():
        before = _measured(assembly, "before", say)
        few_shot = with_shots(assembly.subject(), tasks)
    memory.begin("preparing")
    # Only what can begin may discard what an earlier run wrote.
    if world.main:
        output.claim(folder, recipe, resume=resume, overwrite=overwrite)
        lock = output.lock(recipe, {**assembly.data.hashes, **assembly.loaded.hashes}, assembly.loaded.origin)
        output.write(folder / output.LOCK, output.as_json(lock))
    world.wait()
    loop = build_loop(assembly, folder, quiet)
    rehearsal = None
    if recipe.train.rehearsal:
        say("Rehearsing the longest batch, one evaluation and a save ...")
        memory.begin("rehearsal")
        rehearsal = trial(loop, assembly, folder)
    memory.begin("training")
    if resume and (found := latest(folder / output.CHECKPOINTS)):
        unpack(loop, found)
        say(f"Resuming after step {loop.state.step} of {loop.total}.")
    with _stopped_by_signals(loop), watched(loop, _patience(recipe, world)):
        loop.run()
    memory.begin("measuring after")
    after = _measured(assembly, "after", say)
    with assembly.attached.disabled():
        canaries = fixtures.answers(assembly.subject())
    warnings = omitted(assembly.subject(), tasks)
    hardest = hardest_rows(assembly) if before else []
    memory.begin("saving")
    # Sharded weights are gathered by all processes together, so each of them saves; the main one's files are kept.
    with nullcontext(folder) if world.main else tempfile.TemporaryDirectory() as place:
        try:
            save_adapter(Path(place) / output.ADAPTER, assembly)
            fixtures.keep(Path(place), assembly.subject(), canaries)
            memory.end()
            evidence = evidence_of(
                assembly, loop, before, after, few_shot, hardest, rehearsal, memory.done, started, warnings
            )
            if world.main:
                write_report(folder, evidence)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            hint = "Free space or permissions, then --resume from the last checkpoint."
            raise BadInput(f"the result cannot be written: {reason}", file=folder, hint=hint) from None
    if world.main:
        _remember(evidence, assembly, loop, say)
    world.wait()
    return Run(folder, evidence, assembly)


def build_loop(assembly: Assembly, folder: Path, quiet: bool = True, record: bool = True) -> Loop:
    """The training loop; with `record`, the hooks that record, watch and save."""
    recipe, train = assembly.recipe, assembly.recipe.train
    hooks: list[Hook] = []
    loop = Loop(
        assembly.policy,
        assembly.attached,
        cast(Objective, recipe.objective),
        cast(Optimizer, recipe.optimizer).build(assembly.attached.trained()),
        cast(Schedule, recipe.schedule),
        assembly.data.train,
        assembly.plan,
        assembly.settings,
        assembly.world,
        hooks,
    )
    hooks += _acting(recipe, assembly.attached)
    loop.hooks = list(hooks)
    if not record:
        return loop
    every = train.checkpoint_every or max(10, loop.total // 10)
    metrics: Metrics | None = None
    if assembly.world.main:
        metrics = Metrics(folder / output.METRICS, assembly.data.names, train.trackers, recipe.plain())
        hooks.append(metrics)
        if not quiet:
            hooks.append(ProgressBar())
    if train.evaluate_every:
        stop = (train.early_stop.measure, train.early_stop.patience) if train.early_stop else None
        hooks.append(
            Watch(
                train.evaluate_every,
                lambda: measure(assembly.subject(train.evaluate_limit), recipe.evaluate, automatic=False),
                metrics.write if metrics else lambda line: None,
                folder / output.CHECKPOINTS / "best",
                stop,
                train.keep_best,
            )
        )
    loop.hooks = [*hooks, Checkpoints(folder / output.CHECKPOINTS, every, train.keep_checkpoints)]
    return loop


def _acting(recipe: Recipe, attached: Attached) -> list[Hook]:
    """What the recipe's methods do in the loop."""
    order = cast(Order | None, recipe.data.order)
    layers = cast(Layers | None, recipe.layers)
    found = [
        Weighted(order) if order else None,
        order.hook() if order else None,
        attached.hook(),
        layers.hook() if layers else None,
        *(cast(Regularizer, one).hook() for one in recipe.regularize),
        cast(Schedule, recipe.schedule).hook(),
    ]
    return [hook for hook in found if hook is not None]


def _check_watched(assembly: Assembly) -> None:
    recipe, train = assembly.recipe, assembly.recipe.train
    known = measured(assembly.subject(), recipe.evaluate)
    watched = {("train", "early_stop", "measure"): train.early_stop and train.early_stop.measure}
    for place, name in (watched | {("train", "keep_best"): train.keep_best}).items():
        if name and name not in known:
            raise recipe.fault(
                place, "names no measure of this run", found=name, expected=" or ".join(known) or "a task under 'evaluate'",
                hint=nearest(name, known),
            )  # fmt: skip


def _patience(recipe: Recipe, world: World) -> float:
    """Seconds without a finished step after which the stacks are written. One process alone waits for no other."""
    chosen = recipe.train.watchdog
    return chosen if chosen is not None else PATIENCE if world.size > 1 else 0.0


def _remember(evidence: Evidence, assembly: Assembly, loop: Loop, say: Callable[[str], None]) -> None:
    """Keeps the prediction beside the fact for later plans, unless the recipe keeps nothing or the plan was cut short."""
    plan = evidence.plan
    if plan is None or not assembly.recipe.data.cache or loop.state.step < loop.total:
        return
    seconds, took = plan.predicted_seconds, plan.actual_seconds
    memory, peak = plan.predicted_memory_bytes, plan.actual_memory_bytes
    if not (seconds and took and memory and peak):
        return
    kind = machine.kind(assembly.world.device.type, assembly.world.size)
    found = hindsight.Outcome(kind, assembly.precision, tunewright.__version__, seconds, took, memory, peak)
    try:
        hindsight.remember(found)
    except OSError as error:
        say(f"What this run took is not kept for later plans: {error.strerror or error}.")


def _measured(assembly: Assembly, when: str, say: Callable[[str], None]) -> list[Scores]:
    if not assembly.recipe.evaluate:
        return []
    say(f"Measuring {when} tuning ...")
    return measure(assembly.subject(), assembly.recipe.evaluate)


def trial(loop: Loop, assembly: Assembly, folder: Path, seconds: float = 0.0) -> Rehearsal:
    """Tries the longest batch, a step, an evaluation of two rows with its generation, and a save.

    With `seconds`, the trial goes on: an evaluation fills a whole batch and the canaries answer, so that memory peaks as
    in the run, and steps take about so long.
    """
    scratch = folder / output.CHECKPOINTS / f".rehearsal-{assembly.world.rank}"
    answer = lambda: fixtures.answers(assembly.subject())
    short, full = (lambda: measure_rows(assembly, 2)), (lambda: measure_rows(assembly))
    return rehearse(loop, scratch, [short], [full, answer], seconds)


def measure_rows(assembly: Assembly, rows: int | None = None) -> None:
    """Goes through the recipe's tasks on a few rows, or on as many as an evaluation computes at once."""
    tasks = [task for task in assembly.recipe.evaluate if isinstance(task, Task)]
    if tasks:
        mean = max(1.0, float(assembly.data.eval.lengths.mean()))
        measure(assembly.subject(rows or max(2, round(EVALUATION_TOKENS / mean))), tasks)


@contextmanager
def _stopped_by_signals(loop: Loop) -> Iterator[None]:
    """Ctrl-C (or a termination signal) ends the run after the step at hand, saved; a second one at once."""

    def ask(signum: int, frame: object) -> None:
        if loop.stop_asked:
            raise KeyboardInterrupt
        loop.stop_asked = True

    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, ask)
    except ValueError:  # Signals belong to the main thread; elsewhere the caller stops the run.
        pass
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def speaker(quiet: bool) -> Callable[[str], None]:
    """What tells a user on standard error how far the work is."""
    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))
