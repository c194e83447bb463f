"""What the low-rank adapters share: choosing layers, putting the low-rank layer on them, taking it off, exporting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunewright.adapters._whole import WholeParameters, parameters_of
from tunewright.adapters.base import Adapter, Attached, LoraExport, LoraPair
from tunewright.adapters.low_rank._layer import LowRankLayer
from tunewright.catalog import option
from tunewright.errors import BadInput
from tunewright.models.layers import ALL_LINEAR, matches, shape_of, targets
from tunewright.models.quantize._layer import QuantizedLinear
from tunewright.models.shards import whole


class LowRank(Adapter):
    """Adds a trained update of low rank to chosen linear layers; a family member says how A and B begin."""

    rank: int = option(16, "Rank r of the update.", changes="parameters", to=4, ge=1)
    alpha: float = option(
        16.0, "Numerator of the update's scale: alpha / r, or alpha / sqrt(r).", changes="loss", to=64.0, gt=0
    )
    dropout: float = option(
        0.0, "Share of the update's inputs set to zero while training.", changes="loss", to=0.5, ge=0, lt=1
    )
    target_modules: str | tuple[str, ...] = option(
        ALL_LINEAR,
        "'all-linear' (every linear layer of the body), or names, path endings or globs of layers.",
        changes="parameters",
        to=["down_proj"],
    )
    rank_stabilized: bool = option(False, "Scale by alpha / sqrt(r) instead of alpha / r.", changes="loss", to=True)
    ranks: dict[str, Annotated[int, Field(ge=1)]] = option(
        {}, "Rank of layers that match a pattern, as {down_proj: 4}.", changes="parameters", to={"down_proj": 2}
    )
    train_modules: tuple[str, ...] = option(
        (), "Modules trained entirely besides: embeddings, head, norms.", changes="parameters", to=["norm"]
    )

    @property
    def traits(self) -> frozenset[str]:
        return super().traits | {"low_rank"}

    @property
    def trains_weights(self) -> bool:
        return bool(self.train_modules)

    def start(self, layer: nn.Module, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        """First values of A [rank, in] and B [out, rank]; may change the layer's weight."""
        raise NotImplementedError

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedLowRank:
        model.requires_grad_(False)
        chosen = targets(model, self.target_modules)
        for pattern in self.ranks:
            if not any(matches(name, pattern) for name in chosen):
                raise BadInput(f"no target layer matches '{pattern}'", field="ranks")
        plan = {name: self._rank_of(name, layer) for name, layer in chosen.items()}
        whole = WholeParameters(model, parameters_of(model, self.train_modules)) if self.train_modules else None
        layers: dict[str, LowRankLayer] = {}
        for name, layer in chosen.items():
            scale = self.alpha / (plan[name] ** 0.5 if self.rank_stabilized else plan[name])
            down, up = offered(layer, plan[name], scale) or self.start(layer, plan[name], scale)
            device = layer.weight.device
            layers[name] = LowRankLayer(layer, down.to(device), up.to(device), scale, self.dropout)  # type: ignore[arg-type]
            _put(model, name, layers[name])
        return AttachedLowRank(model, self, layers, whole)

    def _rank_of(self, name: str, layer: nn.Module) -> int:
        rank = next((r for pattern, r in self.ranks.items() if matches(name, pattern)), self.rank)
        if rank > min(shape_of(layer)):
            raise BadInput(
                f"layer '{name}' is {shape_of(layer)[0]} x {shape_of(layer)[1]}",
                field="adapter.rank",
                found=rank,
                expected=f"a rank of at most {min(shape_of(layer))}",
                hint="Lower the rank, or set it for this layer under 'ranks'.",
            )
        return rank


class AttachedLowRank(Attached):
    """Low-rank layers in place of a model's linear layers."""

    def __init__(
        self, model: nn.Module, method: LowRank, layers: dict[str, LowRankLayer], whole: WholeParameters | None
    ) -> None:
        super().__init__(model)
        self.method, self.layers, self.whole = method, layers, whole

    def trained(self) -> dict[str, nn.Parameter]:
        pairs = {
            f"{name}.{part}": parameter
            for name, layer in self.layers.items()
            for part, parameter in (("down", layer.down), ("up", layer.up))
        }
        return pairs | (self.whole.parameters if self.whole else {})

    def detach(self) -> None:
        self.unmerge()
        for name, layer in self.layers.items():
            _put(self.model, name, layer.base)
        if self.whole:
            self.whole.restore()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        merged = [layer for layer in self.layers.values() if layer.merged]
        for layer in self.layers.values():
            layer.unmerge()
            layer.enabled = False
        try:
            with super().disabled(), self.whole.swapped_out() if self.whole else nullcontext():
                yield
        finally:
            for layer in self.layers.values():
                layer.enabled = True
            for layer in merged:
                layer.merge()

    def merge(self) -> None:
        quantized = next((name for name, layer in self.layers.items() if isinstance(layer.base, QuantizedLinear)), None)
        if quantized is not None:
            raise BadInput(
                f"the weights of '{quantized}' are quantized: adding the update would need rounding them again",
                hint="Export the adapter, or merge it into the model without 'model.quantize'.",
            )
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self) -> None:
        for layer in self.layers.values():
            layer.unmerge()

    def fold(self) -> None:
        """Makes the update part of the weights for good and takes the low-rank layers off the model."""
        self.merge()
        for name, layer in self.layers.items():
            _put(self.model, name, layer.base)
        if self.whole:
            self.whole.keep()

    def plain_weights(self) -> dict[str, Tensor]:
        ours = {f"{name}.{part}" for name in self.layers for part in ("down", "up")}
        inner = {f"{name}.base.": f"{name}." for name in self.layers}
        found: dict[str, Tensor] = {}
        for key, value in self.model.state_dict().items():
            if key not in ours:
                prefix = next((old for old in inner if key.startswith(old)), None)
                found[inner[prefix] + key.removeprefix(prefix) if prefix else key] = value
        return found

    @torch.no_grad()
    def start_from(self, trained: LoraExport) -> None:
        ours = {name: layer.down.shape[0] for name, layer in self.layers.items()}
        theirs = {name: pair.down.shape[0] for name, pair in trained.pairs.items()}
        own = self.whole.parameters if self.whole else {}
        if ours != theirs or set(own) != set(trained.whole):
            raise BadInput(
                "the adapter to go on from is not of this recipe's form",
                field="model.adapter",
                found=_form(theirs, trained.whole),
                expected=_form(ours, own),
                hint="Set 'adapter' to its ranks and layers, or put the new one on top: 'adapter_as: base'.",
            )
        for name, pair in trained.pairs.items():
            layer = self.layers[name]
            scale = pair.alpha / theirs[name] ** _power(trained.rank_stabilized)
            layer.down.copy_(pair.down)
            layer.up.copy_(pair.up * (scale / layer.scale))
        for name, value in trained.whole.items():
            own[name].copy_(value)

    def as_lora(self) -> LoraExport:
        power = _power(self.method.rank_stabilized)
        return LoraExport(
            pairs={
                name: LoraPair(
                    whole(layer.down.detach()), whole(layer.up.detach()), layer.scale * layer.down.shape[0] ** power
                )
                for name, layer in self.layers.items()
            },
            whole={name: whole(p.detach()) for name, p in self.whole.parameters.items()} if self.whole else {},
            rank_stabilized=self.method.rank_stabilized,
            transposed=any(isinstance(layer.base, Conv1D) for layer in self.layers.values()),
            dropout=self.method.dropout,
        )


def _form(ranks: Mapping[str, int], whole: Iterable[str]) -> str:
    """What an adapter consists of, in words."""
    counted = ", ".join(str(rank) for rank in sorted(set(ranks.values())))
    return f"rank {counted} on {len(ranks)} layers" + (f", {len(set(whole))} whole tensors" if set(whole) else "")


def offered(layer: nn.Module, rank: int, scale: float) -> tuple[Tensor, Tensor] | None:
    """A and B of the product that a layer offers for its update to begin with (`offer`: out x r, r x in), if any.

    Raises `BadInput` when the offer is of another rank.
    """
    offer: tuple[Tensor, Tensor] | None = getattr(layer, "offer", None)
    if offer is None:
        return None
    up, down = offer
    if down.shape[0] != rank:
        raise BadInput(
            "the quantized layers offer a first update of another rank",
            field="adapter.rank",
            found=rank,
            expected=str(down.shape[0]),
        )
    return down / scale**0.5, up / scale**0.5


def _power(rank_stabilized: bool) -> float:
    return 0.5 if rank_stabilized else 1.0


def kaiming(rank: int, width: int) -> Tensor:
    """A [rank, width] drawn uniformly from +-1/sqrt(width), by the global generator."""
    return torch.empty(rank, width).uniform_(-1.0, 1.0) / width**0.5


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
