"""Tiny training runs: the parts of a run put together the way the pipeline does, in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from tunewright import catalog
from tunewright.adapters.base import Adapter, Attached
from tunewright.catalog import Method
from tunewright.data.answers import Answers
from tunewright.data.batches import Batch, Plan, collate
from tunewright.data.table import Table
from tunewright.hooks import Hook
from tunewright.models.context.base import Context
from tunewright.models.load import head_is_plain
from tunewright.models.policy import Policy
from tunewright.objectives.base import Objective, surveyed
from tunewright.optimize.optimizers.base import Optimizer
from tunewright.optimize.schedules.base import Schedule
from tunewright.testing.models import tiny
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.loop import Loop, Settings
from tunewright.train.loop import Steps as Steps
from tunewright.train.processes import World
from tunewright.train.weighting import Weighted

Parts = Mapping[str, Method]
"""Kind -> the method a tiny run uses for it."""

ALONE = World(0, 1, torch.device("cpu"))


def usual_parts() -> dict[str, Method]:
    """LoRA of rank 4, plain likelihood, AdamW at a high rate, cosine."""
    return {
        "adapter": catalog.find("adapter", "lora")(rank=4),  # type: ignore[call-arg]
        "objective": catalog.find("objective", "sft")(),
        "optimizer": catalog.find("optimizer", "adamw")(lr=1e-2),  # type: ignore[call-arg]
        "schedule": catalog.find("schedule", "cosine")(warmup=0.0),  # type: ignore[call-arg]
    }


def tiny_policy(model: Any = None, dtype: torch.dtype = torch.float32) -> Policy:
    """A policy around `model` (a tiny llama by default), computing in bf16 when its weights are."""
    model = tiny(dtype=dtype) if model is None else model
    short = next(model.parameters()).dtype != torch.float32
    return Policy(model, plain_head=head_is_plain(model), autocast=torch.bfloat16 if short else None)


def tiny_loop(
    parts: Parts | None = None,
    *,
    model: Any = None,
    table: Table | None = None,
    plan: Plan | None = None,
    settings: Settings | None = None,
    hooks: Sequence[Hook] = (),
    world: World = ALONE,
    steps: int = 8,
) -> Loop:
    """A loop over a tiny model and random data; `parts` replaces some of `usual_parts`, and may add other kinds.

    What the methods do in the loop (`hook`) comes before `hooks`.
    """
    chosen: dict[str, Any] = {**usual_parts(), **(parts or {})}
    if "context" in chosen:
        model = extended(cast(Context, chosen["context"]), tiny() if model is None else model)
    policy = tiny_policy(model)
    if "quantizer" in chosen:
        chosen["quantizer"].apply(policy.model, {"calibration": random_table()})
    settings = settings or Settings(micro_batch_tokens=32)
    attached = attach(cast(Adapter, chosen["adapter"]), policy, settings.seed)
    supply(policy, {"reference", "teacher"} & chosen["objective"].needs)
    if table is None:
        table = table_for(cast(Objective, chosen["objective"]), chosen["order"].columns if "order" in chosen else ())
    plan = plan or plan_of(table, steps)
    if "order" in chosen:
        plan = chosen["order"].plan(plan, table)
    weighing = [Weighted(chosen["order"])] if "order" in chosen else []
    acting = [
        *(chosen[kind].hook() for kind in ("order",) if kind in chosen),
        attached.hook(),
        *(chosen[kind].hook() for kind in ("layers", "regularizer", "schedule") if kind in chosen),
    ]
    return Loop(
        policy,
        attached,
        cast(Objective, chosen["objective"]),
        cast(Optimizer, chosen["optimizer"]).build(attached.trained()),
        cast(Schedule, chosen["schedule"]),
        table,
        plan,
        settings,
        world,
        [*weighing, *(hook for hook in acting if hook is not None), *hooks],
    )


def extended(context: Context, model: Any) -> Any:
    """A model of the same weights whose context is changed, as loading it with a recipe does."""
    config = copy.deepcopy(model.config)
    context.configure(config)
    made = type(model)(config).to(next(model.parameters()).dtype)
    made.load_state_dict(model.state_dict())
    context.apply(made.train(model.training))
    return made


def attach(adapter: Adapter, policy: Policy, seed: int = 0) -> Attached:
    """The adapter on the policy's model, its first values drawn under `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attached = adapter.attach(policy.model)
    policy.set_reference(attached.disabled)
    return attached


def disturb(attached: Attached, seed: int = 1, size: float = 0.05) -> None:
    """Moves every trained parameter at random, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attached.trained().values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def gradient(
    policy: Policy, attached: Attached, objective: Objective, batches: Sequence[Batch]
) -> tuple[Tensor, float]:
    """Gradient (one vector over all trained parameters, averaged over weight) and loss of a step."""
    trained = list(attached.trained().values())
    for parameter in trained:
        parameter.grad = None
    total = weight = 0.0
    for batch in ready(objective, policy, batches):
        loss = objective.loss(policy, batch)
        loss.total.backward()
        total, weight = total + loss.total.item(), weight + float(loss.weight)
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    return torch.cat([g.flatten() for g in found]) / weight, total / weight


def table_for(objective: Objective, columns: Collection[str] = ()) -> Table:
    """Random rows as an objective needs them, with further `columns` where the rows have none of that name."""
    further = {*objective.columns, *columns} - set(random_table().columns)
    wanted = random_table(answers=Answers.wanted(objective.needs), columns=further)
    return objective.arrange(wanted, 0)


def supply(policy: Policy, names: Collection[str]) -> list[Policy]:
    """Gives the policy another tiny model for each of the names (`reference`, `teacher`)."""
    others = [tiny_policy(tiny(seed=5)).requires_grad_(False) for _ in names]
    for name, other in zip(names, others, strict=True):
        policy.supply(name, other)
    return others


def ready(objective: Objective, policy: Policy, batches: Sequence[Batch], step: int = 3, total: int = 4) -> list[Batch]:
    """A step's batches as the loop hands them to the objective."""
    return surveyed(objective, policy, [objective.transform(batch, 0, step, total) for batch in batches])


def layouts(table: Table) -> dict[str, list[Batch]]:
    """The same sequences as batches in every way: one row each, two halves, all at once, packed, over-padded; what
    stands together stays so."""
    units = np.arange(len(table)).reshape(-1, table.together)
    make = lambda chosen, packed=False: collate(table, chosen.ravel(), packed=packed)
    return {
        "1 x all": [make(units)],
        "2 x half": [make(units[: len(units) // 2]), make(units[len(units) // 2 :])],
        "all x 1": [make(unit) for unit in units],
        "packed": [make(units, True)],
        "packed in two": [make(units[::2], True), make(units[1::2], True)],
        "padded further": [_wider(make(units), 7)],
    }


def differs(one: Tensor, other: Tensor) -> float:
    """||one - other|| / ||one||."""
    return float((one - other).norm() / one.norm().clamp(min=1e-30))


def logits_of(policy: Policy, table: Table) -> list[Tensor]:
    """All logits of every sequence, each computed alone through the model's own forward."""
    found = []
    with torch.no_grad(), policy.computing():
        for index in range(len(table)):
            ids = collate(table, [index]).ids
            found.append(policy.model(input_ids=ids, use_cache=False).logits[0].float())
    return found


def bits(model: Any) -> dict[str, Tensor]:
    """Every parameter and buffer of a model, copied."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def differing_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names that differ in presence, dtype or any bit."""
    return sorted(
        name
        for name in {*one, *other}
        if name not in one
        or name not in other
        or one[name].dtype != other[name].dtype
        or not torch.equal(one[name], other[name])
    )


def _wider(batch: Batch, more: int) -> Batch:
    pad: Callable[[Tensor, float], Tensor] = lambda t, v: torch.nn.functional.pad(t, (0, more), value=v)
    width = batch.ids.shape[1]
    positions = torch.cat([batch.positions, torch.arange(width, width + more).expand(len(batch.ids), more)], 1)
    return replace(
        batch,
        ids=pad(batch.ids, 3),
        positions=positions,
        weights=pad(batch.weights, 0.0),
        sequence=pad(batch.sequence, -1),
        token_columns={name: pad(column, 0) for name, column in batch.token_columns.items()},
    )
