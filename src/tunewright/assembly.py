"""From a recipe to everything a run needs: its data read, its model loaded, its adapter attached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from tunewright import output
from tunewright.adapters._peft import load_peft
from tunewright.adapters.base import Adapter, Attached, LoraExport
from tunewright.catalog import find
from tunewright.costs import micro_batch_tokens, width_multiple
from tunewright.data.batches import Plan, Share
from tunewright.data.order.base import Order
from tunewright.data.parts import own_source
from tunewright.data.prepare import Prepared, prepare
from tunewright.decode.base import Decoder
from tunewright.document import find_path
from tunewright.errors import BadInput
from tunewright.evaluate.base import Subject
from tunewright.evaluate.rows import subject
from tunewright.models.attention import use_float32
from tunewright.models.load import Loaded, describe, load, load_tokenizer, packs, resolve_precision
from tunewright.models.policy import Policy
from tunewright.models.quantize.base import Quantizer
from tunewright.models.shards import shard
from tunewright.models.writing import writers
from tunewright.objectives.base import Objective
from tunewright.optimize.optimizers.base import Optimizer
from tunewright.recipe import ModelSpec, Recipe
from tunewright.train.loop import Settings
from tunewright.train.processes import World

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
            self.policy, self.loaded.tokenizer, self.data, self.recipe, batch_tokens=EVALUATION_TOKENS, limit=limit,
            decoders=self._decoders,
        )  # fmt: skip

    def _decoders(self) -> tuple[Decoder, ...]:
        return cast(tuple[Decoder, ...], self.recipe.decode) if self.attached.enabled else ()


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
    for decoder in cast(tuple[Decoder, ...], recipe.decode):
        decoder.processor(loaded.tokenizer, [], frozenset())
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
        quantizer = cast(Quantizer, recipe.model.quantize)
        fitted = _calibration(recipe) if "calibration" in quantizer.needs else None
        quantizer.apply(loaded.policy.model, {"calibration": fitted.train} if fitted else {})
        loaded = replace(loaded, hashes=fitted.hashes if fitted else {})
    # What writes rows alone is not needed beside the model.
    needs = {need for method in recipe.methods.values() if method.kind != "format" for need in method.needs}
    for name in ("reference", "teacher"):
        if name in recipe.supplies and name in needs:
            loaded.policy.supply(name, _beside(recipe, name, loaded, world))
    return loaded


def _calibration(recipe: Recipe) -> Prepared:
    """The rows named under `supplies`, read as those of the first training source."""
    rows = cast(Quantizer, recipe.model.quantize).rows
    source = own_source(recipe, {"path": recipe.supplies["calibration"]}, follow=True).model_copy(
        update={"limit": rows}
    )
    data = recipe.data.model_copy(update={"sources": (source,), "eval": (), "order": None})
    alone = recipe.model_copy(update={"data": data, "objective": find("objective", "sft")()})
    context, vocabulary = describe(recipe.model)
    found = prepare(alone, load_tokenizer(recipe.model), context, vocabulary=vocabulary, strict=False)
    if not len(found.train):
        raise recipe.fault(("supplies", "calibration"), "no row is left", found=source.path)
    return found


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
    try:
        cast(Optimizer, recipe.optimizer).groups(attached.trained())
    except BadInput as error:
        raise recipe.fault(("optimizer", "rates"), error.message, expected=error.expected) from None
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
