"""MixLoRA: low-rank experts in every feed-forward block, chosen token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import model_validator
from torch import Tensor, nn

from tunewright.adapters.base import Adapter, Attached
from tunewright.adapters.low_rank._family import _put, kaiming
from tunewright.adapters.low_rank._layer import LowRankLayer, _Added
from tunewright.catalog import Paper, option
from tunewright.data.batches import Batch
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.layers import linear_layers, matches, shape_of, targets

if TYPE_CHECKING:
    from tunewright.objectives.base import Loss
    from tunewright.train.loop import Loop, Step

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


class Turn:
    """Which expert a block runs now, if any: on `rows` of its `whole` input, which are `part`."""

    def __init__(self) -> None:
        self.expert: int | None = None
        self.once: dict[nn.Module, Tensor] = {}
        """What layers at the block's entry make of the whole input."""
        self.whole = self.part = self.rows = torch.empty(0)

    def begin(self, expert: int, whole: Tensor, rows: Tensor) -> None:
        """The next expert of the same pass."""
        self.expert, self.whole, self.rows = expert, whole, rows
        self.part = whole.index_select(0, rows)

    def end(self) -> None:
        """The pass is over."""
        self.expert, self.once = None, {}
        self.whole = self.part = self.rows = torch.empty(0)


class ExpertLayer(nn.Module):
    """A frozen linear layer with an update of low rank per expert: `down` [rank, in] and `up` [out, rank] of each."""

    def __init__(self, base: nn.Module, method: MixLoRA, turn: Turn) -> None:
        super().__init__()
        out, width = shape_of(base)
        device: torch.device = base.weight.device  # type: ignore[assignment]
        self.base, self.turn = base, turn
        self.down = nn.ParameterList(kaiming(method.rank, width) for _ in range(method.num_experts)).to(device)
        self.up = nn.ParameterList(torch.zeros(out, method.rank) for _ in range(method.num_experts)).to(device)
        self.scale, self.dropout = method.alpha / method.rank, method.dropout
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        """The base layer's weight; code that looks at a linear layer's dtype or device finds it here."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    def forward(self, x: Tensor) -> Tensor:
        turn = self.turn
        if turn.expert is None:
            plain: Tensor = self.base(x)
            return plain
        if x is turn.part:
            if self not in turn.once:
                turn.once[self] = self.base(turn.whole)
            base = turn.once[self].index_select(0, turn.rows)
        else:
            base = self.base(x)
        inner = nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x
        added: Tensor = _Added.apply(base, inner, self.down[turn.expert], self.up[turn.expert], self.scale)
        return added


@dataclass(frozen=True)
class Routing:
    """What a block's router said of each token: `probabilities` float32 [tokens, E], `chosen` int64 and `weights`
    float32 [tokens, k]."""

    probabilities: Tensor
    chosen: Tensor
    weights: Tensor


class Mixture(nn.Module):
    """A feed-forward block whose experts differ by their updates."""

    def __init__(self, base: nn.Module, method: MixLoRA, turn: Turn, width: int, device: torch.device) -> None:
        super().__init__()
        self.base, self.method, self.turn = base, method, turn
        self.router = nn.Parameter((method.router_std * torch.randn(method.num_experts, width)).to(device))
        self.enabled = True
        self.seen: list[Routing] | None = None
        self.train(base.training)

    def route(self, x: Tensor) -> Routing:
        """Experts and their weights for tokens [n, d]."""
        method, read = self.method, x.float()
        if method.jitter and self.training:
            read = read * torch.empty_like(read).uniform_(1 - method.jitter, 1 + method.jitter)
        with torch.autocast(x.device.type, enabled=False):
            probabilities = (read @ self.router.T).softmax(-1)
        weights, chosen = probabilities.topk(method.top_k, -1)
        if method.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(probabilities, chosen, weights)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            plain: Tensor = self.base(x)
            return plain
        flat, turn = x.flatten(0, -2), self.turn
        routing = self.route(flat)
        if self.seen is not None:
            self.seen.append(routing)
        out = torch.zeros(flat.shape, dtype=torch.float32, device=x.device)
        try:
            for expert in range(self.method.num_experts):
                rows, slots = (routing.chosen == expert).nonzero(as_tuple=True)
                if len(rows):
                    turn.begin(expert, flat, rows)
                    made = self.base(turn.part) * routing.weights[rows, slots, None]
                    out = out.index_add(0, rows, made.float())
        finally:
            turn.end()
        return out.to(x.dtype).view(x.shape)


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


class ExpertBalance(Hook):
    """Adds the balance among experts to the loss; knows the assignments of the step before."""

    def __init__(self, attached: AttachedMixLoRA) -> None:
        self.attached, self.mixtures = attached, list(attached.mixtures.values())
        self.device = self.mixtures[0].router.device
        self.counts = torch.zeros(len(self.mixtures), attached.method.num_experts, device=self.device)
        self.shares: Tensor | None = None
        self.batches: list[Batch] | None = None

    def on_end(self, loop: Loop) -> None:
        if self._hear in loop.policy.listeners:
            loop.policy.listeners.remove(self._hear)

    def on_batches(self, loop: Loop, batches: list[Batch]) -> list[Batch]:
        if self.shares is None:
            for batch in batches:
                self._listen(loop)
                with torch.no_grad():
                    loop.policy.hidden(batch)
                trained = torch.zeros(len(batch.indices), device=self.device)
                own = trained.index_add(0, batch.sequence.clamp(min=0).flatten(), batch.weights.abs().flatten())
                self._count(self._heard(batch, own))
            self._share(loop)
        return batches

    def on_batch(self, loop: Loop, batch: Batch) -> Batch:
        self._listen(loop)
        return batch

    def _listen(self, loop: Loop) -> None:
        if self._hear not in loop.policy.listeners:
            loop.policy.listeners.append(self._hear)
        self.batches = []
        for mixture in self.mixtures:
            mixture.seen = []

    def _hear(self, batch: Batch) -> None:
        if self.batches is not None and self.mixtures[0].enabled:
            self.batches.append(batch)

    def _heard(self, batch: Batch, weights: Tensor) -> list[list[tuple[Tensor, Routing]]]:
        """For each block, the passes over a batch since `_listen`: the weight of every token, and its routing."""
        every = [spread(each, batch, weights) for each in self.batches or ()]
        found = [list(zip(every, mixture.seen or (), strict=True)) for mixture in self.mixtures]
        self.batches = None
        for mixture in self.mixtures:
            mixture.seen = None
        return found

    def _count(self, heard: list[list[tuple[Tensor, Routing]]]) -> None:
        for counts, passes in zip(self.counts, heard, strict=True):
            for tokens, routing in passes:
                share = tokens[:, None].expand(routing.chosen.shape)
                counts.index_add_(0, routing.chosen.flatten(), share.flatten())

    def _share(self, loop: Loop) -> None:
        counts = loop.world.sum(self.counts)
        self.shares = counts / counts.sum(1, keepdim=True).clamp(min=1e-12)
        self.counts = torch.zeros_like(counts)

    def on_loss(self, loop: Loop, batch: Batch, loss: Loss) -> Loss:
        if self.batches is None or self.shares is None:
            return loss
        heard = self._heard(batch, loss.per_sequence[1].detach())
        self._count(heard)
        terms = [
            balance(shares, torch.stack([tokens @ routing.probabilities for tokens, routing in passes]).sum(0))
            / torch.stack([tokens.sum() for tokens, _ in passes]).sum().clamp(min=1e-12)
            for shares, passes in zip(self.shares, heard, strict=True)
        ]
        term = torch.stack(terms).sum() * loss.weight
        added = self.attached.method.balance * term
        return replace(loss, total=loss.total + added, parts={**loss.parts, "balance": term.detach()})

    def after_step(self, loop: Loop, step: Step) -> None:
        self._share(loop)

    def state(self) -> dict[str, Any]:
        return {} if self.shares is None else {"shares": self.shares.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.shares = torch.tensor(state["shares"], device=self.device) if state else None


def balance(shares: Tensor, probabilities: Tensor) -> Tensor:
    """E * sum_i f_i P_i over experts [E]: 1 where either is even."""
    return len(shares) * (shares * probabilities).sum()


def spread(computed: Batch, batch: Batch, weights: Tensor) -> Tensor:
    """The weight float32 [rows * width] of every token of a pass over (some of) a batch's sequences: that of its
    sequence, `weights` [sequences of the batch], divided among its tokens; 0 for padding."""
    same = computed.indices[:, None] == batch.indices
    if not len(computed.indices):
        return weights.new_zeros(computed.sequence.numel())
    own = weights[same.int().argmax(1)] * same.any(1)
    number, real = computed.sequence.flatten().clamp(min=0), computed.sequence.flatten() >= 0
    lengths = own.new_zeros(len(own)).index_add(0, number, real.to(own.dtype))
    return (own / lengths.clamp(min=1))[number] * real
