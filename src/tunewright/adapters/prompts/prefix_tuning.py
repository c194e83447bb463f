"""Prefix tuning: trained keys and values in front of every layer's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tunewright.adapters.base import Adapter, PromptExport
from tunewright.adapters.prompts._front import AttachedFront, arguments, positions_of, reader
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.models.attention import PREFIX

CACHES = ("past_key_values", "layer_past", "past_key_value")
"""What attention layers call the cache they are given."""


class PrefixTuning(Adapter):
    """Trains keys and values that every token attends to, in front of each layer's own; the model stays frozen.

    With m = num_virtual_tokens, each layer has K_p, V_p [key-value heads, m, head width] and computes
    softmax(q [K_p; K]^T) [V_p; V], so that 2 m (key-value heads) (head width) numbers per layer train. They begin as the
    keys and values the model itself computes for m tokens drawn from the vocabulary (the paper: real words begin better
    than noise). Position ids run through prefix and sequence: token i stands at m + i. A prefix of zeros is not neutral,
    it takes its share of the softmax; with the adapter off there is no prefix, and tokens stand at the positions they
    have without it: exactly the model before.

    The prefix is no part of the cache and is put in front of it in every layer, so that caches, left padding and
    activation checkpointing work as without it, and packed records each see it alone. Every token sees it, however far:
    also under a sliding window, out of which PEFT lets it fall. The model's context is m positions shorter. A run leaves
    it in PEFT's format too (`PrefixTuning`); there is nothing to merge.

    The paper trains the vectors through a wider network that is thrown away afterwards; here they train directly, with
    more steps and higher rates than `lora` needs: at first the prefix disturbs a small model more than it helps.

    When to use: many small tasks on one served model, and where the base must answer unchanged beside it. When not: where
    the result must be plain weights (`lora`), or positions are not given as ids (ALiBi), which is refused.
    """

    name: ClassVar[str] = "prefix_tuning"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Prefix-Tuning: Optimizing Continuous Prompts for Generation", arxiv="2101.00190"),
    )

    num_virtual_tokens: int = option(10, "Keys and values m per layer.", changes="parameters", to=4, ge=1)

    @property
    def neutral(self) -> bool:
        return False

    @property
    def positions(self) -> int:
        return self.num_virtual_tokens

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        """Attention inside groups has no place for a prefix."""
        return {"context": frozenset({"ungrouped"})}

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedPrefix:
        body, layers = reader(model), attentions(model)
        attention = str(model.config._attn_implementation)  # type: ignore[union-attr]
        if "position_ids" not in arguments(body) or not attention.startswith((PREFIX, "sdpa", "eager")):
            raise BadInput(
                "the attention of this model takes no prefix", field="adapter",
                found=f"{type(model).__name__} with '{attention}' attention",
                expected="a model that takes position ids, with 'sdpa' or 'eager' attention",
            )  # fmt: skip
        tokens = torch.randint(model.get_input_embeddings().num_embeddings, (1, self.num_virtual_tokens))  # type: ignore[operator]
        begin = computed(model, layers, tokens)
        model.requires_grad_(False)
        return AttachedPrefix(model, self.name, layers, Prefix(begin))


class Prefix(nn.Module):
    """What trains, float32: `keys` and `values` [key-value heads, m, head width] of each layer."""

    def __init__(self, begin: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.keys, self.values = (
            nn.ParameterList(nn.Parameter(each.to(torch.float32, copy=True)) for each in side)
            for side in zip(*begin, strict=True)
        )


class AttachedPrefix(AttachedFront):
    """The prefix as a child of the model, put in front of what each attention layer attends to."""

    def __init__(self, model: Any, name: str, layers: Sequence[nn.Module], trains: Prefix) -> None:
        super().__init__(model, name, trains, trains.keys[0].shape[1])
        self.trains = trains
        self._handles = [self.body.register_forward_pre_hook(self._placed, with_kwargs=True)]
        self._handles += [given_cache(layer, self._in_front(number)) for number, layer in enumerate(layers)]

    def _placed(self, body: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        """Moves every token behind the prefix."""
        if not self.enabled:
            return None
        given = {**dict(zip(self.taken, args, strict=False)), **given}
        read = given["input_ids"] if given.get("inputs_embeds") is None else given["inputs_embeds"]
        cache = given.get("past_key_values")
        seen = cache.get_seq_length() if cache is not None else 0
        at = positions_of(read, given.get("position_ids"), given.get("attention_mask"), seen)
        return (), {**given, "position_ids": at + self.length}

    def _in_front(self, number: int) -> Callable[[Any, int, int, Any], tuple[Any, Any] | None]:
        def put(cache: Any, rows: int, width: int, mask: Any) -> tuple[Any, Any] | None:
            if not self.enabled:
                return None
            keys, values = self.trains.keys[number], self.trains.values[number]
            return Fronted(cache, keys, values), _longer(mask, self.length, width, keys.device)

        return put

    def as_prompt(self, state: Mapping[str, Tensor]) -> PromptExport | None:
        """As PEFT has it: a row per virtual token, with key and value of each layer in turn."""
        sides = [state[f"{side}.{n}"] for n in range(len(self.trains.keys)) for side in ("keys", "values")]
        if len({side.shape for side in sides}) > 1:
            return None
        heads, length, width = sides[0].shape
        flat = torch.stack(sides).permute(2, 0, 1, 3).reshape(length, -1)
        config = {
            "num_virtual_tokens": length, "token_dim": heads * width, "num_attention_heads": heads,
            "num_layers": len(sides) // 2, "encoder_hidden_size": heads * width, "prefix_projection": False,
        }  # fmt: skip
        return PromptExport("PREFIX_TUNING", flat, config)


class Fronted:
    """Stands for a layer's cache (or none): what attention gets from it has the prefix in front."""

    def __init__(self, cache: Any, keys: Tensor, values: Tensor) -> None:
        self._cache, self._prefix = cache, (keys, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def update(self, keys: Tensor, values: Tensor, *rest: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """Keys and values [rows, heads, m + n, width] of everything so far."""
        if self._cache is not None:
            keys, values = self._cache.update(keys, values, *rest, **more)
        sides = zip(self._prefix, (keys, values), strict=True)
        both = [torch.cat([p.to(own.dtype).expand(len(own), -1, -1, -1), own], 2) for p, own in sides]
        return both[0], both[1]


class _Recorder:
    """Takes the place of a cache and keeps what a layer writes to it."""

    def __init__(self) -> None:
        self.written: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *rest: Any, **more: Any) -> tuple[Tensor, Tensor]:
        self.written = (keys, values)
        return keys, values


def attentions(model: nn.Module) -> list[nn.Module]:
    """The attention layers of a model, in order: the innermost modules that take a cache and know their layer."""
    taking = [m for m in model.modules() if hasattr(m, "layer_idx") and set(CACHES) & set(arguments(m))]
    return [m for m in taking if not any(other is not m and other in set(m.modules()) for other in taking)]


def given_cache(layer: nn.Module, put: Callable[[Any, int, int, Any], tuple[Any, Any] | None]) -> Any:
    """Before an attention layer runs, asks `put(cache, rows, width, mask)` for the cache and the mask to give it instead
    (None: as they are). Returns the handle."""
    taken = arguments(layer)
    cache_name = next(name for name in CACHES if name in taken)

    def before(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        given = {**dict(zip(taken, args, strict=False)), **given}
        rows, width = given["hidden_states"].shape[:2]
        instead = put(given.get(cache_name), rows, width, given.get("attention_mask"))
        return None if instead is None else ((), {**given, cache_name: instead[0], "attention_mask": instead[1]})

    return layer.register_forward_pre_hook(before, with_kwargs=True)


@torch.no_grad()
def computed(model: Any, layers: Sequence[nn.Module], ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [heads, n, width] that each layer computes for tokens [1, n]. Raises `BadInput` for a model in
    which some layer has none of its own."""
    kept = [_Recorder() for _ in layers]
    handles = [
        given_cache(layer, lambda cache, rows, width, mask, recorder=recorder: (recorder, mask))  # type: ignore[misc]
        for layer, recorder in zip(layers, kept, strict=True)
    ]
    try:
        model(input_ids=ids.to(model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    found = [(each.written[0][0], each.written[1][0]) for each in kept if each.written is not None]
    if not found or len(found) < len(kept) or len(kept) != model.config.get_text_config().num_hidden_layers:
        raise BadInput(
            "not every layer of this model attends to keys and values of its own", field="adapter",
            found=f"{len(found)} layers that do", hint="Use another adapter, such as 'lora'.",
        )  # fmt: skip
    return found


def _longer(mask: Any, length: int, width: int, device: torch.device) -> Any:
    """The attention mask with the prefix, which every token sees; None stays where it allows everything before."""
    if mask is None:
        if width == 1:
            return None
        mask = torch.ones(1, 1, width, width, dtype=torch.bool, device=device).tril()
    seen = mask.new_zeros(()) if mask.is_floating_point() else mask.new_ones(())
    return torch.cat([seen.expand(*mask.shape[:-1], length), mask], -1)
