"""MixLoRA: low-rank experts in every feed-forward block, chosen token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import nn

from tunewright.adapters.base import Adapter, Attached
from tunewright.adapters.low_rank._family import _put, kaiming
from tunewright.adapters.low_rank._layer import LowRankLayer
from tunewright.adapters.mixtures._balance import ExpertBalance
from tunewright.adapters.mixtures._experts import ExpertLayer, Mixture, Turn
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.layers import linear_layers, matches, shape_of, targets

ALL_ATTENTION = "all-attention"


class MixLoRA(Adapter):
    """Turns every feed-forward block into a mixture of experts that share its frozen weights and differ by low-rank updates.

    For a token x [d]: p = softmax(G x) in float32 with G [E, d] from N(0, router_std^2); the `top_k` largest p are kept
    and divided by their sum (w). Expert i is the block with W + s B_i A_i in each of its linear layers, s = alpha / rank,
    A uniform in +-1/sqrt(in), B zero, so that nothing changes at the start; out = sum over kept i of w_i h_i. What the
    layers at the block's entry make of x by W is computed once for all experts. The linear layers outside the
    feed-forward blocks have an ordinary update of the same rank.

    Balance: the loss gains balance * sum over blocks of E * sum_i f_i P_i. P_i is the mean of p_i over the tokens of the
    optimizer step, padding not counted: every sequence counts by its weight in the loss, spread evenly over its tokens,
    so that packing, padding and micro-batches change nothing. f_i is the share of (token, slot) assignments to i,
    averaged alike over the step before, as the present step's is known only after all of its micro-batches; the paper
    takes both from one batch. For the first step a pass without gradients counts them. f carries no gradient.

    With `renormalize` off (top-1 switch routing) w stays p, so that the router learns from the loss where top_k is 1;
    the output then changes at the start. Cannot be merged: the update depends on the token.

    When to use: one model for tasks that differ much. When not: one task, where `lora` takes a fraction of the time.
    """

    name: ClassVar[str] = "mixlora"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="MixLoRA: Enhancing Large Language Models Fine-Tuning with LoRA based Mixture of Experts",
            arxiv="2404.15159",
            card=88,
        ),
    )

    num_experts: int = option(8, "Experts E of every block.", changes="parameters", to=4, ge=1)
    top_k: int = option(2, "Experts that work on a token.", changes="loss", to=1, ge=1)
    rank: int = option(16, "Rank of every update.", changes="parameters", to=4, ge=1)
    alpha: float = option(32.0, "Numerator of the updates' scale alpha / rank.", changes="loss", to=64.0, gt=0)
    dropout: float = option(
        0.05, "Share of the updates' inputs set to zero while training.", changes="loss", to=0.5, ge=0, lt=1
    )
    router_std: float = option(0.02, "Spread of the router's first weights.", changes="loss", to=0.5, ge=0)
    balance: float = option(0.01, "Weight of the balance among experts.", changes="loss", to=1.0, ge=0)
    jitter: float = option(
        0.0, "Spread of the factors around 1 on the router's inputs while training.", changes="loss", to=0.9, ge=0, lt=1
    )
    renormalize: bool = option(True, "Divide the kept experts' weights by their sum.", changes="loss", to=False)
    feed_forward: tuple[str, ...] = option(
        ("mlp",), "The feed-forward blocks, by name, path ending or glob.", changes="parameters", to=["*.0.mlp"]
    )
    attention_modules: str | tuple[str, ...] = option(
        ALL_ATTENTION,
        "'all-attention' (every linear layer outside the feed-forward blocks), or names, path endings or globs; none when empty.",
        changes="parameters",
        to=["q_proj", "v_proj"],
    )

    @model_validator(mode="after")
    def _kept_exist(self) -> MixLoRA:
        if self.top_k > self.num_experts:
            raise ValueError("'top_k' is more than 'num_experts'")
        return self

    @property
    def neutral(self) -> bool:
        return self.renormalize

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedMixLoRA:
        linears = linear_layers(model)
        blocks = self._blocks(model, linears)
        inside = {inner for names in blocks.values() for inner in names}
        others = self._others(model, {name: layer for name, layer in linears.items() if name not in inside})
        for name in (*inside, *others):
            if self.rank > min(shape_of(linears[name])):
                raise BadInput(
                    f"layer '{name}' is {shape_of(linears[name])[0]} x {shape_of(linears[name])[1]}",
                    field="adapter.rank",
                    found=self.rank,
                    expected=f"a rank of at most {min(shape_of(linears[name]))}",
                )
        model.requires_grad_(False)
        return AttachedMixLoRA(model, self, blocks, others)

    def _blocks(self, model: nn.Module, linears: Mapping[str, nn.Module]) -> dict[str, list[str]]:
        """Name of a feed-forward block -> the names of its linear layers."""
        found: dict[str, list[str]] = {}
        for pattern in self.feed_forward:
            for name, _ in model.named_modules():
                if matches(name, pattern):
                    found[name] = [inner for inner in linears if inner.startswith(f"{name}.")]
        empty = next((name for name, inner in found.items() if not inner), None)
        if empty is not None or not found:
            raise BadInput(
                f"'{empty}' has no linear layers" if empty else "no module is a feed-forward block of this name",
                field="adapter.feed_forward",
                found=list(self.feed_forward),
                hint="Name the modules that hold a block's feed-forward layers and nothing else.",
            )
        return found

    def _others(self, model: nn.Module, outside: Mapping[str, nn.Module]) -> list[str]:
        if self.attention_modules == ALL_ATTENTION:
            return list(outside)
        chosen = targets(model, self.attention_modules) if self.attention_modules else {}
        twice = next((name for name in chosen if name not in outside), None)
        if twice is not None:
            raise BadInput(
                f"'{twice}' belongs to a feed-forward block and has experts", field="adapter.attention_modules"
            )
        return list(chosen)


class AttachedMixLoRA(Attached):
    """Mixtures in place of feed-forward blocks, low-rank layers in place of other linear layers."""

    def __init__(self, model: nn.Module, method: MixLoRA, blocks: Mapping[str, list[str]], others: list[str]) -> None:
        super().__init__(model)
        self.method = method
        self.experts: dict[str, ExpertLayer] = {}
        self.mixtures: dict[str, Mixture] = {}
        self.layers: dict[str, LowRankLayer] = {}
        for name in others:
            base: Any = model.get_submodule(name)
            out, width = shape_of(base)
            down, up = kaiming(method.rank, width), torch.zeros(out, method.rank)
            at = base.weight.device
            self.layers[name] = LowRankLayer(base, down.to(at), up.to(at), method.alpha / method.rank, method.dropout)
            _put(model, name, self.layers[name])
        for name, inner in blocks.items():
            turn = Turn()
            for each in inner:
                self.experts[each] = ExpertLayer(model.get_submodule(each), method, turn)
                _put(model, each, self.experts[each])
            first = self.experts[inner[0]]
            width, device = shape_of(first.base)[1], first.weight.device
            self.mixtures[name] = Mixture(model.get_submodule(name), method, turn, width, device)
            _put(model, name, self.mixtures[name])

    def trained(self) -> dict[str, nn.Parameter]:
        found = {f"{name}.router": mixture.router for name, mixture in self.mixtures.items()}
        for name, layer in self.layers.items():
            found |= {f"{name}.down": layer.down, f"{name}.up": layer.up}
        for name, expert in self.experts.items():
            for part, each in (("down", expert.down), ("up", expert.up)):
                found |= {f"{name}.{part}.{number}": parameter for number, parameter in enumerate(each)}
        return found

    def detach(self) -> None:
        for name, mixture in self.mixtures.items():
            _put(self.model, name, mixture.base)
        replaced: dict[str, Any] = {**self.experts, **self.layers}
        for name, layer in replaced.items():
            _put(self.model, name, layer.base)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        parts: list[Mixture | LowRankLayer] = [*self.mixtures.values(), *self.layers.values()]
        for part in parts:
            part.enabled = False
        try:
            with super().disabled():
                yield
        finally:
            for part in parts:
                part.enabled = True

    def merge(self) -> None:
        raise BadInput(
            "mixlora cannot be merged: which experts work, and so what is added to the weights, depends on the token",
            hint="The tuned model works from the run's folder: 'tunewright chat', 'tunewright evaluate'.",
        )

    def hook(self) -> Hook | None:
        return ExpertBalance(self) if self.method.balance else None
