"""S2FT: a few channels and heads, put first, train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from tunewright.adapters.base import Adapter, LoraExport, LoraPair
from tunewright.adapters.sparse._coupled import READERS, Coupled, coupled, reordered
from tunewright.adapters.sparse._delta import AttachedDelta, DeltaLayer
from tunewright.adapters.sparse._measurement import Measurement
from tunewright.adapters.sparse._slices import SliceLayer, spread
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.layers import shape_of
from tunewright.models.quantize._layer import QuantizedLinear
from tunewright.models.shards import is_sharded, whole

Picks = dict[str, Tensor]
"""Layer -> the chosen units (channels, heads or groups of heads) of its structure, int64 and rising."""


class S2FT(Adapter):
    """Trains a few rows or columns of whole weight matrices: those of chosen feed-forward channels and attention heads.

    Channel j is row j of up and gate and column j of down; a head is rows of q, k, v and columns of o. Of all pairs
    (layer, channel) or (layer, head) of the model int(ratio x pairs) are chosen for each of down, up, o, v by itself,
    so layers get different numbers. The chosen ones are put first, in the order [only up, both, only down, rest], in
    every layer of the structure: the function stays the same and what trains is one dense block D. down and o: y = W x
    + D x[slice], D [out, k] (only x[slice] is kept for the backward pass); up and v: y[slice] += D x, D [k, in]. D
    begins at 0, float32. Exported in the original order as LoRA pairs with one-hot A (down, o) or B (up, v), of rank k
    and scale 1. Where key-value heads are shared, the unit of o and v is a group of heads; without `permute` it is a
    single head of o, the chosen numbers are gathered by index and W stays as it is.

    The norm that `weight` compares is that of D's own rows or columns of W, rounded to bfloat16, so that the choice is
    the same in every precision. `activation` compares the norm of a unit's values over the tokens (what down and o
    read, what up and v make), `gradient` that of the loss's gradient to its rows or columns of W; both are measured
    before the first step on the batches of the run's first `measured_steps` steps, whose tokens and seconds are counted
    as the run's. `gradient` holds one float32 gradient of the layers' whole weights meanwhile. Until then, and without
    a loop, the choice is random. Under sharding these two want `permute: false`.

    When to use: a few percent of the weights, full rank in their slice, added and taken out exactly. When not: models
    that keep q, k, v (or gate and up) in one matrix, except for `ratio_down` and `ratio_o` without `permute`.
    """

    name: ClassVar[str] = "s2ft"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="S^{2}FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity",
            arxiv="2412.06289",
            card=186,
        ),
    )

    ratio_down: float = option(0.03, "Share of channels that train in down.", changes="parameters", to=0.2, ge=0, le=1)
    ratio_up: float = option(0.0, "Share of channels that train in up.", changes="parameters", to=0.2, ge=0, le=1)
    ratio_o: float = option(0.0, "Share of heads that train in o.", changes="parameters", to=0.5, ge=0, le=1)
    ratio_v: float = option(0.0, "Share of heads that train in v.", changes="parameters", to=0.5, ge=0, le=1)
    strategy: Literal["random", "weight", "activation", "gradient"] = option(
        "random", "How units are chosen: at random, or by the norm of their weights, activations or gradients.",
        changes="loss", to="weight",
    )  # fmt: skip
    measured_steps: int = option(
        1, "Steps whose batches activations or gradients are measured on.", changes="tokens", to=3,
        given={"adapter.strategy": "activation"}, ge=1,
    )  # fmt: skip
    smallest: bool = option(
        False, "Choose the smallest norms instead of the largest.", changes="loss", to=True,
        given={"adapter.strategy": "weight"},
    )  # fmt: skip
    permute: bool = option(
        True, "Put what is chosen first, so that it is one block.", changes="parameters", to=False,
        given={"adapter.ratio_o": 0.4},
    )  # fmt: skip
    seed: int = option(0, "Seed of the random choice.", changes="loss", to=1)

    @model_validator(mode="after")
    def _trains(self) -> S2FT:
        if not any(self.ratios.values()):
            raise ValueError("nothing trains: one of the ratios must be above 0")
        return self

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        return {"quantizer": frozenset({"permutable (unless 'permute: false')"})} if self.permute else {}

    @property
    def ratios(self) -> dict[str, float]:
        """Role of a layer -> the share of its units that trains."""
        return {"down": self.ratio_down, "up": self.ratio_up, "o": self.ratio_o, "v": self.ratio_v}

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedS2FT:
        model.requires_grad_(False)
        groups = coupled(model, {role for role, ratio in self.ratios.items() if ratio}, self.permute)
        picks = self._first_picks(model, groups)
        if not self.permute:
            return AttachedS2FT(model, self, groups, picks)
        before = _probed(model)
        attached = AttachedS2FT(model, self, groups, picks)
        rounding = 1e-4 if before.dtype == torch.float32 else 3e-2
        if (_probed(model).float() - before.float()).norm() > rounding * before.float().norm():
            attached.detach()
            raise BadInput(
                "this model computes something else when its channels or heads are put in another order",
                field="adapter.permute",
                found=True,
                hint="Set 'permute: false'.",
            )
        return attached

    @property
    def measured(self) -> bool:
        """Whether units are chosen by what a batch shows, so that layers may come to train or cease to."""
        return self.strategy in ("activation", "gradient")

    def _first_picks(self, model: nn.Module, groups: list[Coupled]) -> Picks:
        generator = torch.Generator().manual_seed(self.seed)

        def scores(role: str, members: list[tuple[str, int]]) -> list[Tensor]:
            if self.strategy == "weight":
                return [norms(model, name, role, units) for name, units in members]
            return list(torch.rand(sum(n for _, n in members), generator=generator).split([n for _, n in members]))

        return self.picks(groups, scores)

    def picks(self, groups: list[Coupled], scores: Callable[[str, list[tuple[str, int]]], list[Tensor]]) -> Picks:
        """The units with the best scores; `scores` gives those [units] of each (layer, units) of a role.

        Raises `BadInput` when the ratios choose nothing.
        """
        picks: Picks = {}
        for role, ratio in self.ratios.items():
            members = [(group.layers[role], group.units[role]) for group in groups if ratio and role in group.layers]
            total = sum(count for _, count in members)
            found = torch.cat([torch.zeros(0), *scores(role, members)])
            best = found.argsort(descending=not self.smallest, stable=True)[: int(ratio * total)]
            taken = torch.zeros(total, dtype=torch.bool).index_fill_(0, best, True)
            parts = taken.split([count for _, count in members])
            picks |= {name: own.nonzero()[:, 0] for (name, _), own in zip(members, parts, strict=True)}
        if not any(map(len, picks.values())):
            raise BadInput(
                "the ratios choose no channel and no head of this model", field="adapter", hint="Raise them."
            )
        return picks if self.measured else {name: units for name, units in picks.items() if len(units)}


def norms(model: nn.Module, name: str, role: str, units: int) -> Tensor:
    """The norm of every unit's rows (up, v) or columns (down, o) of a layer's weight, float64 [units]."""
    weight = QuantizedLinear.original(model.get_submodule(name)).to(torch.bfloat16).double().cpu()
    lines = weight.T if role in READERS else weight
    return lines.reshape(units, -1).norm(dim=1)


class AttachedS2FT(AttachedDelta):
    """Slices on a model's layers; the model's weights are in the slices' order except while merged or disabled."""

    def __init__(self, model: nn.Module, method: S2FT, groups: list[Coupled], picks: Picks) -> None:
        super().__init__(model)
        self.method, self.groups = method, groups
        self.layers: dict[str, SliceLayer] = {}
        self.orders: list[tuple[Coupled, Tensor]] = []
        self.ordered = False
        for group in groups:
            for role, name in group.layers.items():
                if name in picks:
                    self.layers[name] = SliceLayer(model.get_submodule(name), by_rows=role not in READERS)
                    self.put(name, self.layers[name])
        self.choose(picks)

    def choose(self, picks: Picks) -> None:
        """Trains these units from now on, from a difference of zero."""
        self.order(False)
        self.orders.clear()
        for group in self.groups:
            chosen = {role: picks[name] for role, name in group.layers.items() if name in self.layers}
            if chosen:
                self._place(group, chosen)
        self.order(True)

    def _place(self, group: Coupled, chosen: dict[str, Tensor]) -> None:
        permute = self.method.permute
        rows, columns = (_first(chosen, roles) for roles in (("up", "v"), READERS))
        both = rows[torch.isin(rows, columns)]
        first = torch.cat([rows[~torch.isin(rows, both)], both, columns[~torch.isin(columns, both)]])
        if permute and len(first):
            rest = torch.arange(next(iter(group.units.values())))
            self.orders.append((group, torch.cat([first, rest[~torch.isin(rest, first)]])))
        for role, units in chosen.items():
            layer, width = self.layers[group.layers[role]], group.widths[role]
            device = layer.weight.device
            if permute:
                start = len(rows) - len(both) if role in READERS else 0
                block = slice(start, start + len(units))
                layer.take(spread(first[block], width).to(device), slice(block.start * width, block.stop * width))
            else:
                channels = spread(units, width).to(device)
                layer.take(channels, channels)

    def order(self, wanted: bool) -> None:
        """Puts units into the slices' order, or back into the model's own."""
        if wanted == self.ordered:
            return
        for group, order in self.orders:
            for role, name in group.layers.items():
                layer = self.layers[name].base if name in self.layers else self.model.get_submodule(name)
                index = spread(order if wanted else order.argsort(), group.widths[role])
                reordered(layer, index, columns=role in READERS)
        self.ordered = wanted

    @property
    def over(self) -> dict[str, DeltaLayer]:
        return dict(self.layers)

    def hook(self) -> Hook | None:
        return Measurement(self) if self.method.measured else None

    def detach(self) -> None:
        super().detach()
        self.order(False)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        with super().disabled():
            # Sums in another order differ in their last bits. Shards stay in the slices' order: the same up to those.
            if not any(is_sharded(layer.weight) for layer in self.layers.values()):
                self.order(False)
            try:
                yield
            finally:
                self.order(True)

    def merge(self) -> None:
        if not self.merged:
            self.order(False)
            super().merge()

    def unmerge(self) -> None:
        super().unmerge()
        self.order(True)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"{name}.channels": layer.channels for name, layer in self.layers.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copies a `state`. Raises `BadInput` when it does not fit, or was trained on other channels than were chosen
        by something else than a measurement."""
        saved = {name: state.get(f"{name}.channels") for name in self.layers}
        if self.method.measured and all(channels is not None for channels in saved.values()):
            self.choose({name: self._units(name, channels) for name, channels in saved.items() if channels is not None})
        own = {f"{name}.channels": layer.channels for name, layer in self.layers.items()}
        for name, channels in own.items():
            if name not in state or not torch.equal(channels, state[name].to(channels.device)):
                raise BadInput(
                    "the saved adapter was trained on other channels",
                    field=name,
                    expected="those that this adapter's ratios, strategy and seed choose",
                )
        super().load_state({name: value for name, value in state.items() if name not in own})

    def _units(self, name: str, channels: Tensor) -> Tensor:
        [width] = (g.widths[role] for g in self.groups for role, own in g.layers.items() if own == name)
        return (channels[::width] // width).sort().values.cpu()

    def as_lora(self) -> LoraExport:
        pairs = {}
        for name, layer in self.layers.items():
            delta, k = whole(layer.delta.detach()), len(layer.channels)
            if not k:
                continue
            hot = torch.zeros(shape_of(layer.base)[0 if layer.by_rows else 1], k, device=delta.device)
            hot[layer.channels, torch.arange(k)] = 1.0
            down, up = (delta, hot) if layer.by_rows else (hot.T.contiguous(), delta)
            pairs[name] = LoraPair(down, up, float(k))
        transposed = any(layer.transposed for layer in self.layers.values())
        return LoraExport(pairs=pairs, whole={}, rank_stabilized=False, transposed=transposed, dropout=0.0)


def _first(chosen: dict[str, Tensor], roles: tuple[str, str]) -> Tensor:
    return next((chosen[role] for role in roles if role in chosen), torch.zeros(0, dtype=torch.int64))


@torch.no_grad()
def _probed(model: Any) -> Tensor:
    """The model's logits for a few tokens."""
    was = model.training
    model.eval()
    logits: Tensor = model(input_ids=torch.arange(8, device=model.device)[None]).logits
    model.train(was)
    return logits
