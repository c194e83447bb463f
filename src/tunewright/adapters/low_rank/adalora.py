"""AdaLoRA: a rank budget that moves between layers while training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunewright.adapters.base import LoraExport, LoraPair
from tunewright.adapters.low_rank._family import AttachedLowRank, LowRank, _put
from tunewright.adapters.low_rank._layer import LowRankLayer, _Added
from tunewright.catalog import Paper, option
from tunewright.models.layers import shape_of
from tunewright.models.shards import whole

SOON = {"adapter.begin": 0, "adapter.end": 8, "adapter.every": 2}
"""An allocation within a few steps."""


class AdaLoRA(LowRank):
    """Trains the update in the form of a singular value decomposition and prunes its least important triplets.

    W + s B diag(E) A with A [r, in] and B [out, r] from N(0, 0.02^2), E [r] zero, s = alpha / r; all three train. The
    loss gains gamma / (2M) times the sum over M layers of ||A A^T - I|| + ||B^T B - I|| (Frobenius). After each update
    I = |p g|, mean I <- b1 mean I + (1 - b1) I, U <- b2 U + (1 - b2) |I - mean I|, and a triplet's score is
    s(E_i) + mean s(B_.i) + mean s(A_i.) with s = mean I x U. From update `begin` on, every `every` updates, the b(t)
    triplets with the highest score over all layers stay and the E of the others is set to 0; they may return until
    update `end`, when the choice is final. b(t) falls from the sum of the ranks to `target_rank` x M with the cube of
    the share of updates left. Exported as LoRA with each layer's remaining rank (one row of zeros where none is left).

    The paper gives begin and end as shares of the run (10% and 60%); here they are numbers of updates.

    When to use: a small budget, over layers that need it unequally. When not: fewer than a hundred updates, in which
    scores say little.
    """

    name: ClassVar[str] = "adalora"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", arxiv="2303.10512", card=91),
    )

    rank: int = option(12, "Rank of every layer at the start.", changes="parameters", to=10, ge=1)
    alpha: float = option(32.0, "Numerator of the update's scale.", changes="loss", to=64.0, gt=0)
    target_rank: int = option(8, "Mean rank of the layers at the end.", changes="loss", to=2, given=SOON, ge=1)
    begin: int = option(100, "Updates before the first pruning.", changes="loss", to=6, given=SOON, ge=0)
    end: int = option(
        1000, "The update at which the budget is reached and the choice final.", changes="loss", to=12, given=SOON, ge=1
    )
    every: int = option(10, "Updates between allocations.", changes="loss", to=1, given=SOON, ge=1)
    beta1: float = option(0.85, "Decay of the mean sensitivity.", changes="loss", to=0.0, given=SOON, ge=0, lt=1)
    beta2: float = option(0.85, "Decay of its mean uncertainty.", changes="loss", to=0.0, given=SOON, ge=0, lt=1)
    orthogonality: float = option(0.1, "Weight gamma of the penalty.", changes="loss", to=10.0, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> AdaLoRA:
        if self.begin >= self.end:
            raise ValueError("'begin' must come before 'end'")
        return self

    def start(self, layer: nn.Module, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        out, width = shape_of(layer)
        return 0.02 * torch.randn(rank, width), 0.02 * torch.randn(out, rank)

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedAdaLoRA:
        attached = super().attach(model, supplies)
        layers = {}
        for name, layer in attached.layers.items():
            layers[name] = TripletLayer(layer.base, layer.down.data, layer.up.data, layer.scale, layer.dropout)
            _put(model, name, layers[name])
        return AttachedAdaLoRA(model, self, layers, attached)

    def budget(self, update: int, first: int, last: int) -> int:
        """b(t) for the update t (from 1), falling from `first` to `last` triplets."""
        if update <= self.begin:
            return first
        left = max(0.0, 1 - (update - self.begin) / (self.end - self.begin))
        return int(last + (first - last) * left**3)


class TripletLayer(LowRankLayer):
    """y = base(x) + scale * dropout(x) A^T diag(E) B^T."""

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, scale: float, dropout: float) -> None:
        super().__init__(base, down, up, scale, dropout)
        self.values = nn.Parameter(torch.zeros(len(down), device=down.device))

    def forward(self, x: Tensor) -> Tensor:
        base: Tensor = self.base(x)
        if not self.enabled or self.merged:
            return base
        inner = nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x
        added: Tensor = _Added.apply(base, inner, self.values[:, None] * self.down, self.up, self.scale)
        return added

    def delta(self) -> Tensor:
        delta = self.scale * (self.up * self.values) @ self.down
        return delta.T if isinstance(self.base, Conv1D) else delta


class AttachedAdaLoRA(AttachedLowRank):
    """Triplets in place of pairs. Scores and the final choice live in the optimizer's state, with the checkpoints."""

    method: AdaLoRA
    layers: dict[str, TripletLayer]  # type: ignore[assignment]

    def __init__(
        self, model: nn.Module, method: AdaLoRA, layers: dict[str, TripletLayer], attached: AttachedLowRank
    ) -> None:
        super().__init__(model, method, dict(layers), attached.whole)
        self.first = sum(len(layer.values) for layer in layers.values())
        self.last = min(self.first, method.target_rank * len(layers))

    def trained(self) -> dict[str, nn.Parameter]:
        return super().trained() | {f"{name}.values": layer.values for name, layer in self.layers.items()}

    def plain_weights(self) -> dict[str, Tensor]:
        ours = {f"{name}.values" for name in self.layers}
        return {name: value for name, value in super().plain_weights().items() if name not in ours}

    def penalty(self) -> Tensor:
        apart = torch.zeros((), device=next(iter(self.layers.values())).down.device)
        for layer in self.layers.values():
            unit = torch.eye(len(layer.values), device=layer.down.device)
            apart = apart + (layer.down @ layer.down.T - unit).norm() + (layer.up.T @ layer.up - unit).norm()
        return self.method.orthogonality / (2 * len(self.layers)) * apart

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        method, update = self.method, step + 1
        if update <= method.end:
            for layer in self.layers.values():
                for parameter in (layer.values, layer.down, layer.up):
                    self._noted(parameter, optimizer.state[parameter])
        if update == method.end or (method.begin < update < method.end and update % method.every == 0):
            self._allocate(optimizer, method.budget(update, self.first, self.last), final=update == method.end)
        if update > method.end:
            for layer in self.layers.values():
                layer.values.mul_(optimizer.state[layer.values]["kept"])

    def _noted(self, parameter: nn.Parameter, state: dict[str, Any]) -> None:
        if parameter.grad is None:
            return
        now = (parameter * parameter.grad).abs()
        mean = state.setdefault("sensitivity", torch.zeros_like(now)).lerp_(now, 1 - self.method.beta1)
        state.setdefault("uncertainty", torch.zeros_like(now)).lerp_((now - mean).abs(), 1 - self.method.beta2)

    def _allocate(self, optimizer: torch.optim.Optimizer, budget: int, final: bool) -> None:
        scores = torch.cat([scores_of(layer, optimizer) for layer in self.layers.values()])
        kept = torch.zeros_like(scores)
        kept[scores.argsort(descending=True, stable=True)[:budget]] = 1.0
        sizes = [len(layer.values) for layer in self.layers.values()]
        for layer, own in zip(self.layers.values(), kept.split(sizes), strict=True):
            layer.values.mul_(own)
            if final:
                optimizer.state[layer.values]["kept"] = own.clone()

    def as_lora(self) -> LoraExport:
        export = super().as_lora()
        power = 0.5 if export.rank_stabilized else 1.0
        pairs = {}
        for name, layer in self.layers.items():
            values = whole(layer.values.detach())
            rows = torch.nonzero(values)[:, 0] if values.any() else torch.zeros(1, dtype=torch.int64)
            pair = export.pairs[name]
            pairs[name] = LoraPair(
                values[rows, None] * pair.down[rows], pair.up[:, rows], layer.scale * len(rows) ** power
            )
        return replace(export, pairs=pairs)


def scores_of(layer: TripletLayer, optimizer: torch.optim.Optimizer) -> Tensor:
    """The score of every triplet of a layer, float32 [r]; 0 before any gradient was seen."""

    def scored(parameter: nn.Parameter) -> Tensor:
        state = optimizer.state[parameter]
        if "sensitivity" not in state:
            return torch.zeros_like(parameter)
        product: Tensor = state["sensitivity"] * state["uncertainty"]
        return product

    return scored(layer.values) + scored(layer.up).mean(0) + scored(layer.down).mean(1)
