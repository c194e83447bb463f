"""Quantized side tuning: a thin transformer beside a frozen one, which no gradient enters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from tunewright.adapters.base import Adapter, Attached
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput

Down = Literal["lowrank", "linear", "average", "max"]

OPEN = {"adapter.alpha_init": 0.5}
"""A gate that lets the side network through from the first step."""

INNER = ("intermediate_size", "n_inner", "ffn_dim")
"""How configurations call the width of the feed-forward part."""


class QST(Adapter):
    """Trains a thin copy of the architecture beside the frozen model, reading its hidden states and adding to its last.

    The model runs without gradients: h_0 the embedding, h_1 .. h_N its blocks' outputs. The side network is a body of
    the same class, freshly drawn, of width d_s = d // r, feed-forward width F // r and max(1, heads // r) heads of width
    d_s / heads, as many key-value heads. down_i: d -> m -> d_s without bias, SiLU between, LayerNorm after (`linear`: d
    -> d_s and LayerNorm; `average`, `max`: adaptive pooling without weights). g_0 = down_0(h_0); for i = 1 .. N: z =
    sigmoid(z_i), g_i = block_i((1 - z) * down_i(h_i) + z * g_{i-1}); u = up(norm(g_N)); the model's last state becomes
    (1 - a) * u + a * norm(h_N), and its head gives the logits. down, z, blocks, norm, up and a train, in float32. With
    the gate `raw` and a = 1 the start is the base exactly, and only a has a gradient in the very first update; `sigmoid`
    uses sigmoid(a) = 0.73 and learns faster.

    In generation the side network keeps keys and values of its own, behind the model's in the same cache. It cannot be
    merged: it is another network.

    When to use: a large (quantized) model on a small machine: no activation of it is kept but the N + 1 hidden states,
    and no backward pass goes through it. When not: narrow models, of which `reduction` leaves nothing (4 serves below a
    width of 1000); where the result must be plain weights.
    """

    name: ClassVar[str] = "qst"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Quantized Side Tuning: Fast and Memory-Efficient Tuning of Quantized Large Language Models",
            arxiv="2401.07159",
            card=144,
        ),
    )

    reduction: int = option(16, "The model's width over the side network's.", changes="parameters", to=4, ge=1)
    down_rank: int = option(16, "Rank m of the maps down.", changes="parameters", to=4, ge=1)
    down_kind: Down = option("lowrank", "How hidden states are brought down.", changes="parameters", to="linear")
    z_init: float = option(0.5, "First value of the mixing weights z, before the sigmoid.", changes="loss", to=-2.0, given=OPEN)  # fmt: skip
    gate: Literal["raw", "sigmoid"] = option(
        "raw", "Whether a or sigmoid(a) is the gate.", changes="loss", to="sigmoid"
    )
    alpha_init: float = option(1.0, "First value of a.", changes="loss", to=0.5)

    @property
    def neutral(self) -> bool:
        return self.gate == "raw" and self.alpha_init == 1.0

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedQST:
        model.requires_grad_(False)
        stack, blocks = decoder(model)
        return AttachedQST(model, stack, blocks, SideNetwork(self, stack, len(blocks)))

    def thinner(self, config: Any) -> Any:
        """The side network's configuration. Raises `BadInput` where the width does not come out."""
        width, heads = config.hidden_size // self.reduction, max(1, config.num_attention_heads // self.reduction)
        turned = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
        # Positions are turned in pairs of numbers.
        if not width or width % heads or int(width // heads * turned) % 2 or not int(width // heads * turned):
            raise BadInput(
                f"a width of {config.hidden_size} reduced to {width} is not {heads} heads of even width",
                field="adapter.reduction",
                found=self.reduction,
                expected="a reduction after which heads have an even width",
            )
        inner = {name: getattr(config, name) // self.reduction for name in INNER if getattr(config, name, None)}
        own = {"hidden_size": width, "num_attention_heads": heads, "num_key_value_heads": heads,
               "head_dim": width // heads, "word_embed_proj_dim": width}  # fmt: skip
        thin = copy.deepcopy(config)
        for name, value in {**own, **inner}.items():
            if hasattr(config, name):
                setattr(thin, name, value)
        # It is given states, never tokens.
        thin.vocab_size, thin.pad_token_id = 1, None
        return thin


def decoder(model: nn.Module) -> tuple[Any, nn.ModuleList]:
    """The part of a model that runs its blocks, and the blocks: its longest list of modules."""
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    name, blocks = max(lists, key=lambda found: len(found[1]), default=("", None))
    stack = model.get_submodule(name.rpartition(".")[0])
    if blocks is None or not hasattr(stack, "config"):
        raise BadInput("the model is not a stack of transformer blocks", field="adapter", found=type(model).__name__)
    return stack, blocks


class SideNetwork(nn.Module):
    """The trained network: `body`, whose blocks mix in what comes down from the model's, `first` for h_0, `up`, and `gate`,
    the difference of a from its first value (small steps from 0 are not rounded away, as they are from 1)."""

    def __init__(self, method: QST, stack: Any, blocks: int) -> None:
        super().__init__()
        self.method, self.config = method, method.thinner(stack.config)
        wide, thin = stack.config.hidden_size, self.config.hidden_size
        weight = next(stack.parameters())
        try:
            self.body = type(stack)(self.config).float()
        except Exception as error:
            raise BadInput(
                f"no thinner {type(stack).__name__} can be made: {error}", field="adapter", found=method.name
            ) from None
        _, own = decoder(self.body)
        self.first = down(method, wide, thin)
        mix = torch.full((thin,), method.z_init)
        self.rungs = [Rung(own[index], down(method, wide, thin), mix.clone()) for index in range(blocks)]
        for index, rung in enumerate(self.rungs):
            own[index] = rung
        self.up = nn.Linear(thin, wide)
        self.gate = nn.Parameter(torch.zeros(wide))
        self.to(weight.device)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.to(weight.dtype).requires_grad_(False)
        self.train(stack.training)

    def forward(self, states: list[Tensor], last: Tensor, **given: Any) -> Tensor:
        """The model's last state [rows, width, d] from its hidden states h_0 .. h_N and its own last state."""
        start = self.first(states[0])
        for rung, state in zip(self.rungs, states[1:], strict=True):
            rung.state, rung.start = state, None
        self.rungs[0].start = start
        nothing = states[0].new_zeros(start.shape)
        thin = self.body(inputs_embeds=nothing, **given).last_hidden_state
        for rung in self.rungs:
            rung.state = rung.start = None
        gate = self.gate + self.method.alpha_init
        gate = torch.sigmoid(gate) if self.method.gate == "sigmoid" else gate
        mixed: Tensor = (1 - gate) * self.up(thin).float() + gate * last.float()
        return mixed.to(last.dtype)


class Rung(nn.Module):
    """A block of the side network: g = block((1 - z) * down(h) + z * what came before), z = sigmoid(`mix`)."""

    def __init__(self, block: nn.Module, lower: nn.Module, mix: Tensor) -> None:
        super().__init__()
        self.block, self.lower, self.mix = block, lower, nn.Parameter(mix)
        self.state: Tensor | None = None
        self.start: Tensor | None = None

    def forward(self, before: Tensor, *given: Any, **named: Any) -> Any:
        z = torch.sigmoid(self.mix)
        mixed = (1 - z) * self.lower(self.state) + z * (before if self.start is None else self.start)
        return self.block(mixed.to(before.dtype), *given, **named)

    def __getattr__(self, name: str) -> Any:
        # Bodies read some attributes of their blocks, such as the kind of attention.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)


def down(method: QST, wide: int, thin: int) -> nn.Module:
    """The map from d to d_s."""
    if method.down_kind == "lowrank":
        rank = method.down_rank
        maps = (nn.Linear(wide, rank, bias=False), nn.SiLU(), nn.Linear(rank, thin, bias=False))
        return nn.Sequential(*maps, nn.LayerNorm(thin))
    if method.down_kind == "linear":
        return nn.Sequential(nn.Linear(wide, thin, bias=False), nn.LayerNorm(thin))
    return nn.AdaptiveAvgPool1d(thin) if method.down_kind == "average" else nn.AdaptiveMaxPool1d(thin)


class AttachedQST(Attached):
    """A side network beside the part of a model that runs its blocks."""

    def __init__(self, model: nn.Module, stack: Any, blocks: nn.ModuleList, side: SideNetwork) -> None:
        super().__init__(model)
        self.stack, self.side = stack, side
        self.names = [name for name, p in side.named_parameters() if p.requires_grad]
        self._states: list[Tensor] = []
        self._hooks = [
            blocks[0].register_forward_pre_hook(self._enters, with_kwargs=True),
            *(block.register_forward_hook(self._leaves) for block in blocks),
        ]
        self._plain = stack.forward
        stack.side = side
        stack.forward = self._forward

    def _enters(self, block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._states = [given[0] if given else named["hidden_states"]]

    def _leaves(self, block: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        self._states.append(out[0] if isinstance(out, tuple) else out)

    def _forward(self, *given: Any, **named: Any) -> Any:
        if not self.enabled:
            return self._plain(*given, **named)
        past = named.get("past_key_values")
        caches = named.get("use_cache")
        if past is None and (self.stack.config.use_cache if caches is None else caches) and not self.stack.training:
            past = named["past_key_values"] = DynamicCache(config=self.stack.config)
        own = None if past is None else behind(past, self.side.config, len(self.side.rungs))
        with torch.no_grad():
            out = self._plain(*given, **named)
        states, self._states = self._states, []
        kept = {name: named[name] for name in ("attention_mask", "position_ids") if named.get(name) is not None}
        with _in(states[0]):
            out.last_hidden_state = self.side(
                states, out.last_hidden_state, past_key_values=own, use_cache=own is not None, **kept
            )
        return out

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: self.side.get_parameter(name) for name in self.names}

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        del self.stack.forward, self.stack.side
        self.side.requires_grad_(False)

    def merge(self) -> None:
        raise BadInput(
            "a side network is a network of its own and cannot be merged into the model's weights",
            hint="The tuned model stays usable from the run's folder: 'tunewright chat', 'tunewright evaluate'.",
        )

    def unmerge(self) -> None:
        """Nothing was merged."""


def behind(cache: Any, config: Any, blocks: int) -> Any:
    """The side network's cache, whose layers stand behind the model's in `cache`, so that choosing rows reaches both.

    Raises `BadInput` for a cache that the model filled without its side network.
    """
    if not hasattr(cache, "side"):
        if cache.get_seq_length():
            raise BadInput("the cache was begun without the side network", field="adapter", expected="an empty cache")
        # A cache without a configuration has no layers yet.
        cache.layers.extend(cache.layer_class_to_replicate() for _ in range(blocks - len(cache.layers)))
        cache.side = DynamicCache(config=config)
        cache.layers.extend(cache.side.layers)
    return cache.side


def _in(state: Tensor) -> AbstractContextManager[Any]:
    """The arithmetic of the model for the float32 side network."""
    short = state.dtype != torch.float32
    return torch.autocast(state.device.type, dtype=state.dtype) if short else nullcontext()
