"""The seven stages of a run, in order: read, load, attach, measure, train, measure again, write down."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from safetensors import SafetensorError

from tunewright import output
from tunewright.adapters._peft import load_peft
from tunewright.adapters.base import Adapter, Attached, LoraExport
from tunewright.costs import micro_batch_tokens, width_multiple
from tunewright.data.batches import Plan, Share
from tunewright.data.order.base import Order
from tunewright.data.prepare import Prepared, prepare
from tunewright.document import find_path
from tunewright.errors import BadInput, nearest
from tunewright.evaluate import fixtures
from tunewright.evaluate.base import Scores, Subject, Task
from tunewright.evaluate.during import Watch
from tunewright.evaluate.measure import measure, measured, omitted, with_shots
from tunewright.evaluate.rows import subject
from tunewright.hooks import Hook
from tunewright.models.attention import use_float32
from tunewright.models.load import Loaded, describe, load, load_tokenizer, packs, resolve_precision
from tunewright.models.policy import Policy
from tunewright.models.quantize.base import Quantizer
from tunewright.models.shards import shard
from tunewright.models.writing import writers
from tunewright.objectives.base import Objective
from tunewright.optimize.layers.base import Layers
from tunewright.optimize.optimizers.base import Optimizer
from tunewright.optimize.schedules.base import Schedule
from tunewright.recipe import ModelSpec, Recipe
from tunewright.regularize.base import Regularizer
from tunewright.report.evidence import Evidence
from tunewright.results import evidence_of, save_adapter, write_report
from tunewright.train.checkpoint import Checkpoints, latest, unpack
from tunewright.train.loop import Loop, Settings
from tunewright.train.metrics import Metrics, ProgressBar, check_trackers
from tunewright.train.processes import World
from tunewright.train.rehearsal import Rehearsal, rehearse
from tunewright.train.weighting import Weighted

EVALUATION_TOKENS = 8192
"""Positions computed at once in evaluation."""


@dataclass(frozen=True)
class Assembly:
    """Everything a recipe needs, loaded and joined, before the first step."""

    recipe: Recipe
    world: World
    data: Prepared
    loaded: Loaded
    attached: Attached
    precision: Literal["bf16", "fp32"]
    plan: Plan
    settings: Settings

    @property
    def policy(self) -> Policy:
        """The policy with its adapter."""
        return self.loaded.policy

    @property
    def evaluation_tokens(self) -> int:
        """Positions computed at once in evaluation."""
        return EVALUATION_TOKENS

    def subject(self, limit: int | None = None) -> Subject:
        """The policy under measurement on the recipe's evaluation rows."""
        return subject(
            self.policy, self.loaded.tokenizer, self.data, self.recipe, batch_tokens=EVALUATION_TOKENS, limit=limit
        )


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
    say = _speaker(quiet or not world.main)
    if world.main:
        output.check(folder, recipe, resume=resume, overwrite=overwrite)
        check_trackers(recipe.train.trackers)
    assembly = assemble(recipe, world, say)
    _check_watched(assembly)
    tasks = recipe.evaluate
    goes_on = recipe.model.adapter is not None and recipe.model.adapter_as == "start"
    with nullcontext() if goes_on else assembly.attached.disabled():
        before = _measured(assembly, "before", say)
        few_shot = with_shots(assembly.subject(), tasks)
    # Only what can begin may discard what an earlier run wrote.
    if world.main:
        output.claim(folder, recipe, resume=resume, overwrite=overwrite)
        lock = output.lock(recipe, assembly.data.hashes, assembly.loaded.origin)
        output.write(folder / output.LOCK, output.as_json(lock))
    world.wait()
    loop = build_loop(assembly, folder, quiet)
    rehearsal = None
    if recipe.train.rehearsal:
        say("Rehearsing the longest batch, one evaluation and a save ...")
        rehearsal = trial(loop, assembly, folder)
    if resume and (found := latest(folder / output.CHECKPOINTS)):
        unpack(loop, found)
        say(f"Resuming after step {loop.state.step} of {loop.total}.")
    with _stopped_by_signals(loop):
        loop.run()
    after = _measured(assembly, "after", say)
    with assembly.attached.disabled():
        canaries = fixtures.answers(assembly.subject())
    warnings = omitted(assembly.subject(), tasks)
    evidence = evidence_of(assembly, loop, before, after, few_shot, rehearsal, started, warnings)
    # Sharded weights are gathered by all processes together, so each of them saves; the main one's files are kept.
    with nullcontext(folder) if world.main else tempfile.TemporaryDirectory() as place:
        try:
            save_adapter(Path(place) / output.ADAPTER, assembly)
            fixtures.keep(Path(place), assembly.subject(), canaries)
            if world.main:
                write_report(folder, evidence)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            hint = "Free space or permissions, then --resume from the last checkpoint."
            raise BadInput(f"the result cannot be written: {reason}", file=folder, hint=hint) from None
    world.wait()
    return Run(folder, evidence, assembly)


def assemble(
    recipe: Recipe,
    world: World | None = None,
    say: Callable[[str], None] = lambda text: None,
    *,
    data: Prepared | None = None,
    loaded: Loaded | None = None,
) -> Assembly:
    """Prepares the data, loads the model and attaches the adapter: all that a run needs before it measures.

    `data` and `loaded` are what `read` and `load_base` gave for a recipe with the same data and model; the model is
    changed in place.
    """
    world = world or World.join()
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    data = data or read(recipe)
    for report in data.sources:
        say(
            f"{report.name}: {report.format}, {report.kept:,} of {report.rows:,} rows for {report.role}, {report.tokens:,} tokens"
        )
    for warning in data.warnings:
        say(f"Warning: {warning}")
    torch.manual_seed(recipe.train.seed)
    loaded = loaded or load_base(recipe, world)
    precision = resolve_precision(recipe.train.precision)
    attached = attach(recipe, loaded, precision, world)
    settings = _settings(recipe, loaded, data, world)
    return Assembly(recipe, world, data, loaded, attached, precision, _plan(recipe, data), settings)


def read(recipe: Recipe) -> Prepared:
    """The recipe's data, prepared for its model."""
    context, vocabulary = describe(recipe.model)
    asked = writers(recipe, World.join().device)
    data = prepare(recipe, load_tokenizer(recipe.model), context, vocabulary=vocabulary, writers=asked)
    for writer in asked.values():
        writer.unload()
    return replace(data, train=cast(Objective, recipe.objective).arrange(data.train, recipe.train.seed))


def load_base(recipe: Recipe, world: World) -> Loaded:
    """The recipe's model before its adapter, with the adapter it continues from folded in."""
    # What trains starts from the checkpoint's own values, not from their rounding.
    whole = cast(Adapter, recipe.adapter).trains_weights
    loaded = load(recipe.model, "fp32" if whole else resolve_precision(recipe.train.precision), world.device)
    if recipe.model.adapter is not None and recipe.model.adapter_as == "base":
        load_peft(_adapter_folder(recipe), loaded.policy.model).fold()
    if recipe.model.quantize is not None:
        cast(Quantizer, recipe.model.quantize).apply(loaded.policy.model)
    # What writes rows alone is not needed beside the model.
    needs = {need for method in recipe.methods.values() if method.kind != "format" for need in method.needs}
    for name in ("reference", "teacher"):
        if name in recipe.supplies and name in needs:
            loaded.policy.supply(name, _beside(recipe, name, loaded, world))
    return loaded


def _beside(recipe: Recipe, name: str, loaded: Loaded, world: World) -> Policy:
    """The model that answers a need, frozen, with the same vocabulary as the one that is tuned."""
    spec = ModelSpec(path=recipe.supplies[name], trust_remote_code=recipe.model.trust_remote_code)
    beside = load(spec, resolve_precision(recipe.train.precision), world.device)
    other = beside.policy.requires_grad_(False)
    longest = recipe.data.max_length or loaded.context
    if recipe.model.context is not None and beside.context and longest and longest > beside.context:
        raise recipe.fault(
            ("supplies", name),
            "the model takes shorter sequences than the one that is tuned",
            found=f"{beside.context:,} tokens",
            expected=f"{longest:,}",
            hint=f"Name one that takes them, or set 'data: {{max_length: {beside.context}}}'.",
        )
    sizes = [policy.model.get_input_embeddings().weight.shape[0] for policy in (loaded.policy, other)]
    if sizes[0] != sizes[1]:
        raise recipe.fault(
            ("supplies", name),
            "the model has another vocabulary than the one that is tuned",
            found=f"{sizes[1]} embedding rows",
            expected=f"{sizes[0]}",
        )
    return other


def _trained_before(recipe: Recipe, model: Any) -> LoraExport | None:
    """The adapter whose training goes on, read through the model that it was trained on."""
    if recipe.model.adapter is None or recipe.model.adapter_as != "start":
        return None
    attached = load_peft(_adapter_folder(recipe), model)
    trained = attached.as_lora()
    attached.detach()
    return trained


def _adapter_folder(recipe: Recipe) -> Path:
    """The folder of the adapter to continue from: a PEFT folder, or that of a run."""
    folder = find_path(str(recipe.model.adapter), recipe.origin, ("model", "adapter"))
    return folder / output.ADAPTER if (folder / output.ADAPTER).is_dir() else folder


def attach(recipe: Recipe, loaded: Loaded, precision: str, world: World) -> Attached:
    """Puts the recipe's adapter on the model and sets how the policy computes."""
    policy, model = loaded.policy, loaded.policy.model
    if precision == "bf16" and world.device.type == "cpu":
        use_float32(model)
    if recipe.train.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trained = _trained_before(recipe, model)
    attached = cast(Adapter, recipe.adapter).attach(model)
    if trained is not None:
        attached.start_from(trained)
    if not any(p.requires_grad for p in attached.trained().values()):
        raise recipe.fault(("adapter",), "nothing trains: the adapter has no trained parameter")
    policy.set_reference(attached.disabled)
    own = cast(Adapter, recipe.adapter).trains_weights
    if precision == "bf16" and own:
        for parameter in policy.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
        policy.autocast = torch.bfloat16
    if recipe.train.shard and world.size > 1:
        replicated = [] if own else list(attached.trained().values())
        shard(policy, replicated, world.device, world.size)
    if recipe.train.compile:
        plain, compiled = model.base_model.forward, torch.compile(model.base_model.forward, dynamic=True)
        # Generation calls the body with ever new lengths, each of which would be compiled.
        model.base_model.forward = lambda *args, **given: (compiled if model.training else plain)(*args, **given)
    return attached


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


def _measured(assembly: Assembly, when: str, say: Callable[[str], None]) -> list[Scores]:
    if not assembly.recipe.evaluate:
        return []
    say(f"Measuring {when} tuning ...")
    return measure(assembly.subject(), assembly.recipe.evaluate)


def trial(loop: Loop, assembly: Assembly, folder: Path, seconds: float = 0.0) -> Rehearsal:
    """Tries the longest batch, an evaluation, a generation and a save; then steps for about `seconds`, timed.

    With `seconds`, the evaluation fills a whole batch and the canaries answer, so that memory peaks as in the run.
    """
    tasks = [task for task in assembly.recipe.evaluate if isinstance(task, Task)]
    others: list[Callable[[], object]] = []
    if tasks:
        mean = max(1.0, float(assembly.data.eval.lengths.mean()))
        rows = max(2, round(EVALUATION_TOKENS / mean)) if seconds else 2
        others.append(lambda: measure(assembly.subject(rows), tasks))
    if seconds:
        others.append(lambda: fixtures.answers(assembly.subject()))
    return rehearse(loop, folder / output.CHECKPOINTS / f".rehearsal-{assembly.world.rank}", others, seconds)


def _plan(recipe: Recipe, data: Prepared) -> Plan:
    train, table = recipe.train, data.train
    shares = tuple(Share(1.0 if s.epochs is None else s.epochs, s.weight) for s in recipe.data.sources)
    usual = Plan(
        table.lengths.reshape(-1, table.together).sum(1),
        np.asarray(table.columns["source"])[:: table.together],
        shares,
        train.tokens_per_step,
        train.seed,
        train.epochs,
        train.steps,
        train.tokens,
    )
    order = cast(Order | None, recipe.data.order)
    return order.plan(usual, table) if order else usual


def _settings(recipe: Recipe, loaded: Loaded, data: Prepared, world: World) -> Settings:
    train = recipe.train
    width = int(loaded.policy.model.get_input_embeddings().weight.shape[1])
    tokens = train.micro_batch_tokens or micro_batch_tokens(world.device, width)
    longest = int(data.train.lengths.max())
    wants = recipe.data.packing
    packed = False
    if wants == "on" or (wants == "auto" and world.device.type == "cuda"):
        packed = all(method.packs for method in recipe.methods.values()) and packs(loaded.policy, longest)
        if wants == "on" and not packed:
            raise recipe.fault(
                ("data", "packing"),
                "this model lets packed records see each other",
                hint="Use 'packing: auto' or 'off'.",
            )
    pad = loaded.tokenizer.pad_token_id
    return Settings(
        seed=train.seed,
        clip=train.clip,
        micro_batch_tokens=tokens,
        width_multiple=width_multiple(world.device, resolve_precision(train.precision)),
        layout="packed" if packed else "padded",
        pad=pad if pad is not None else 0,
    )


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


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))
