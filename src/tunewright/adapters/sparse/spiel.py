"""SpIEL: a fixed number of single weights, dropped and grown while they train."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from tunewright.adapters.base import Adapter
from tunewright.adapters.sparse._delta import AttachedDelta, DeltaLayer
from tunewright.adapters.sparse._entries import EntriesLayer
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.layers import ALL_LINEAR, targets

if TYPE_CHECKING:
    from tunewright.data.batches import Batch
    from tunewright.train.loop import Loop

MANY = {"adapter.density": 0.2, "adapter.reselection_steps": 6}
"""Enough numbers in tiny layers, and a second exchange within a few updates."""

TINY = 1e-8
"""Added to SM3's cover of the squared gradient."""

SELECTION = ("candidates", "total", "square")
"""What a layer gathers for the next exchange, beside its numbers."""


class SpIEL(Adapter):
    """Trains a fixed share of the single weights of every layer, and exchanges the least moved for more promising ones.

    k = max(1, int(density x size)) numbers delta at k places of W, at random and 0 at first: y = (W + scatter(delta)) x.
    After the updates t = n, n + R, n + 2R, ... with n `accumulation_steps` and R `reselection_steps`, each layer for
    itself drops its int(p k) smallest |delta| and grows as many places. p = p0 (1 - t / T), but 1 the very first time
    (before the last update T); or p0 (1 + cos(pi t / T)) / 2.

    `rigl`: the candidates are the k largest |dL/dW| of the first of the n updates before; the gradients g of all n, as
    the optimizer sees them, are summed, and those with the largest |sum g| grow, from delta = 0 and with Adam's moments
    m = mean(g) (1 - b1^n), v = mean(g^2) (1 - b2^n). A number's moments are corrected by its own age, the updates they
    hold: n after growing. What is both dropped and grown stays as it is; where candidates are too few, fewer are
    exchanged. At the first of the n updates one whole gradient of every layer is in memory.

    `sm3` has no moments: nu = min(row_i, col_j) + g^2, delta -= lr g / sqrt(nu + 1e-8), row_i and col_j the largest nu
    of their row and column; what grows has the largest row_i col_j. It works through `sgd` without momentum.

    Merging adds the numbers to W; over quantized weights it is refused, like every merge here (the paper restores them
    first). delta is a column [k, 1], so that weight decay reaches it.

    When to use: full-rank changes in the memory of a small adapter, for hundreds of updates. When not: very short runs,
    which choose once; where an adapter in PEFT's format is wanted.
    """

    name: ClassVar[str] = "spiel"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Scaling Sparse Fine-Tuning to Large Language Models", arxiv="2401.16405", card=38),
    )

    density: float = option(0.01, "Share of a layer's weights that train.", changes="parameters", to=0.1, gt=0, le=1)
    criterion: Literal["rigl", "sm3"] = option(
        "rigl",
        "What says which weights grow: gathered gradients, or what SM3 keeps (under sgd).",
        changes="error",
        to="sm3",
    )
    reselection_steps: int = option(20, "Updates between exchanges.", changes="loss", to=8, given=MANY, ge=1)
    accumulation_steps: int = option(
        5, "Updates whose gradients are gathered before an exchange.", changes="loss", to=2, given=MANY, ge=1
    )
    initial_reselection_rate: float = option(
        0.2, "Share p0 of the weights exchanged at the start.", changes="loss", to=1.0, given=MANY, ge=0, le=1
    )
    rate_policy: Literal["linear", "cosine"] = option(
        "linear", "How the share falls to 0.", changes="loss", to="cosine", given=MANY
    )
    target_modules: str | tuple[str, ...] = option(
        ALL_LINEAR,
        "'all-linear' (every linear layer of the body), or names, path endings or globs of layers.",
        changes="parameters",
        to=["down_proj"],
    )

    @model_validator(mode="after")
    def _in_order(self) -> SpIEL:
        if self.accumulation_steps > self.reselection_steps:
            raise ValueError("'accumulation_steps' must be at most 'reselection_steps'")
        return self

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        return {"optimizer": frozenset({"adam" if self.criterion == "rigl" else "sgd"})}

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedSpIEL:
        model.requires_grad_(False)
        attached = AttachedSpIEL(model, self)
        for name, layer in targets(model, self.target_modules).items():
            size = layer.weight.numel()  # type: ignore[operator]
            places = torch.randperm(size)[: max(1, int(self.density * size))]
            attached.layers[name] = EntriesLayer(layer, places)
            attached.put(name, attached.layers[name])
        return attached

    def rate(self, update: int, total: int) -> float:
        """The share that is exchanged after an update (from 1) of `total`; nothing after the last."""
        done = min(1.0, update / total)
        if self.rate_policy == "cosine":
            return self.initial_reselection_rate * (1 + math.cos(math.pi * done)) / 2
        return 1.0 if update == self.accumulation_steps < total else self.initial_reselection_rate * (1 - done)


class AttachedSpIEL(AttachedDelta):
    """Single weights on a model's layers. Adam's ages, or SM3's rows and columns, live in the optimizer's state."""

    def __init__(self, model: nn.Module, method: SpIEL) -> None:
        super().__init__(model)
        self.method = method
        self.layers: dict[str, EntriesLayer] = {}
        self.selection = _SpIELSelection(self)

    @property
    def over(self) -> dict[str, DeltaLayer]:
        return dict(self.layers)

    def hook(self) -> Hook:
        return self.selection

    def state(self) -> dict[str, Tensor]:
        found = super().state()
        for name, layer in self.layers.items():
            found[f"{name}.places"] = layer.places
            if layer.candidates is not None:
                found |= {f"{name}.{part}": getattr(layer, part) for part in SELECTION}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copies numbers and places, and what was gathered for the next exchange.

        Raises `BadInput` when names, shapes or places do not fit.
        """
        rest, chosen = dict(state), {}
        for name, layer in self.layers.items():
            parts = ("places", *(SELECTION if f"{name}.{SELECTION[0]}" in state else ()))
            found = {part: rest.pop(f"{name}.{part}", torch.empty(0)) for part in parts}
            if any(len(value) != len(layer.places) for value in found.values()) or not layer.holds(found["places"]):
                raise BadInput("the saved adapter does not fit this model and adapter", field=f"{name}.places")
            chosen[name] = found
        super().load_state(rest)
        for name, layer in self.layers.items():
            values = {part: value.to(layer.places.device, copy=True) for part, value in chosen[name].items()}
            layer.places = values["places"]
            for part in SELECTION:
                setattr(layer, part, values.get(part))

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        method = self.method
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        due = step % method.reselection_steps == method.accumulation_steps - 1 and self.selection.ready
        count = method.rate(step + 1, self.selection.total) if due else 0.0
        for layer in self.layers.values():
            state, group = optimizer.state[layer.delta], groups[id(layer.delta)]
            if method.criterion == "rigl" and layer.delta.grad is not None:
                of_own_age(layer.delta, state, group)
            if due and method.criterion == "rigl":
                self._exchange_by_gradient(layer, state, group, int(count * len(layer.places)))
                layer.forget()
            elif due and state:
                self._exchange_by_score(layer, state, int(count * len(layer.places)))
        if due:
            self.selection.gathered = 0

    def _exchange_by_gradient(
        self, layer: EntriesLayer, state: dict[str, Any], group: Mapping[str, Any], count: int
    ) -> None:
        candidates, total, square = layer.candidates, layer.total, layer.square
        assert candidates is not None and total is not None and square is not None
        by_size = layer.delta[:, 0].abs().argsort(stable=True)
        while True:
            free = ~torch.isin(candidates, layer.places[by_size[count:]])
            if int(free.sum()) >= count:
                break
            # With fewer drops, more of the candidates stay active: count again.
            count = int(free.sum())
        best = total.abs().masked_fill(~free, -1.0).topk(count).indices
        slots, taken = moved(layer, by_size[:count], candidates[best])
        if "exp_avg" in state and len(slots):
            n, (beta1, beta2) = self.method.accumulation_steps, group["betas"]
            state["exp_avg"][slots, 0] = total[best][taken] / n * (1 - beta1**n)
            state["exp_avg_sq"][slots, 0] = square[best][taken] / n * (1 - beta2**n)
            state["age"][slots] = float(n)

    def _exchange_by_score(self, layer: EntriesLayer, state: dict[str, Any], count: int) -> None:
        by_size = layer.delta[:, 0].abs().argsort(stable=True)
        scores = (state["row"][:, None] * state["column"]).flatten()
        scores[layer.places[by_size[count:]].long()] = -1.0
        moved(layer, by_size[:count], scores.topk(count).indices.to(torch.int32))


def moved(layer: EntriesLayer, dropped: Tensor, grown: Tensor) -> tuple[Tensor, Tensor]:
    """Puts the numbers `dropped` (their indices [n]) to 0 at the places `grown` [n]; those that are both stay.

    The indices that have a new place, and which of `grown` each of them has.
    """
    slots = dropped[~torch.isin(layer.places[dropped], grown)]
    taken = (~torch.isin(grown, layer.places[dropped])).nonzero()[:, 0]
    layer.places[slots] = grown[taken]
    layer.delta[slots] = 0.0
    return slots, taken


def of_own_age(delta: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """Replaces the step that Adam just made, corrected by its count of steps, by one corrected by each number's age."""
    age = state.setdefault("age", torch.zeros_like(delta)).add_(1)
    (beta1, beta2), mean, square = group["betas"], state["exp_avg"].double(), state["exp_avg_sq"].double()

    def step(count: Tensor) -> Tensor:
        return mean / (1 - beta1**count) / ((square / (1 - beta2**count)).sqrt() + group["eps"])

    usual = torch.full_like(age, float(state["step"]), dtype=torch.float64)
    delta.add_(((step(usual) - step(age.double())) * group["lr"]).float())


class _SpIELSelection(Hook):
    """Gathers the gradients of the candidates, or makes SGD's step SM3's."""

    def __init__(self, attached: AttachedSpIEL) -> None:
        self.attached, self.method = attached, attached.method
        self.total = self.gathered = 0

    @property
    def ready(self) -> bool:
        """Whether all that an exchange needs is gathered."""
        return self.gathered == self.method.accumulation_steps or (self.method.criterion == "sm3" and self.total > 0)

    def on_start(self, loop: Loop) -> None:
        self.total = loop.total
        fits = torch.optim.AdamW if self.method.criterion == "rigl" else torch.optim.SGD
        if not isinstance(loop.optimizer, fits) or loop.optimizer.param_groups[0].get("momentum"):
            raise BadInput(
                f"spiel with the criterion '{self.method.criterion}' works through another optimizer",
                field="optimizer",
                found=type(loop.optimizer).__name__,
                expected="adamw" if self.method.criterion == "rigl" else "sgd without momentum",
            )

    def on_batches(self, loop: Loop, batches: list[Batch]) -> list[Batch]:
        phase = loop.state.step % self.method.reselection_steps
        if self.method.criterion == "rigl" and phase < self.method.accumulation_steps:
            if phase == 0:
                self._forget()
            for layer in self.attached.layers.values():
                layer.watching = phase == self.gathered
        return batches

    @torch.no_grad()
    def before_step(self, loop: Loop) -> None:
        layers = self.attached.layers.values()
        if self.method.criterion == "sm3":
            for layer in layers:
                if layer.delta.grad is not None:
                    precondition(layer, loop.optimizer.state[layer.delta])
        elif any(layer.watching for layer in layers):
            for layer in layers:
                layer.gather(loop.world.sum, loop.scale)
            self.gathered += 1

    def on_end(self, loop: Loop) -> None:
        self._forget()

    def _forget(self) -> None:
        self.gathered = 0
        for layer in self.attached.layers.values():
            layer.forget()

    def state(self) -> dict[str, Any]:
        return {"gathered": self.gathered}

    def load_state(self, state: dict[str, Any]) -> None:
        self.gathered = int(state.get("gathered", 0))


def precondition(layer: EntriesLayer, state: dict[str, Any]) -> None:
    """Divides the gradient by the root of SM3's cover of its squares, kept as a maximum per row and per column."""
    gradient: Tensor = layer.delta.grad  # type: ignore[assignment]
    rows, columns = layer.weight.shape
    if not state:
        state["row"], state["column"] = gradient.new_zeros(rows), gradient.new_zeros(columns)
    i, j = layer.places.long() // columns, layer.places.long() % columns
    cover = torch.minimum(state["row"][i], state["column"][j]) + gradient[:, 0] ** 2
    gradient.div_((cover + TINY).sqrt()[:, None])
    state["row"].scatter_reduce_(0, i, cover, "amax")
    state["column"].scatter_reduce_(0, j, cover, "amax")
