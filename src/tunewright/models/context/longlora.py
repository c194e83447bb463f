"""Training on long rows with attention inside groups, shifted in half of the heads."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.models.attention import PREFIX, install
from tunewright.models.context.base import Context


class LongLoRA(Context):
    """Extends the context to `length` tokens, and trains with attention inside groups that half of the heads shift.

    Positions: rotary frequencies are divided by ceil(length / own length), on top of a linear scaling that is there; a
    model of that length already (one extended before) keeps them.
    Attention while training, with G = `group_ratio` x `length` rounded up to an even number: in the first half of the
    heads a position sees those before it in its group of G positions; in the second half groups begin at G/2, so that
    what is apart in one half is together in the other. Evaluation and generation use full attention. Rows of at most
    G/2 tokens see all of themselves; attention to n tokens costs G/n as much as full attention does. Groups are counted
    from the beginning of a row, so padding changes nothing, and packed rows would mix: rows are padded.

    The authors roll tokens around, so that in shifted heads the first G/2 positions also see the end of the row, which
    leaks what they are to predict; here these positions are a group of their own. They also take G as a share of each
    batch's width, which is the same on rows of `length` tokens; here a row's groups do not depend on its neighbours.

    Their trained parameters are `adapter: {method: lora, target_modules: [q_proj, k_proj, v_proj, o_proj],
    train_modules: [embed_tokens, norm, input_layernorm, post_attention_layernorm]}` (in a Llama): LoRA alone learns
    long contexts much worse than with embeddings and norms trained beside it.

    When to use: rows several times longer than the model's context. When not: rows that fit, or a model whose positions
    are not rotary.
    """

    name: ClassVar[str] = "longlora"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LongLoRA: Efficient Fine-tuning of Long-Context Large Language Models", arxiv="2309.12307", card=89
        ),
    )  # fmt: skip

    length: int = option(
        ..., "Longest sequence in tokens from now on.", changes="loss", to=256, ge=4, given={"context.length": 512}
    )
    group_ratio: float = option(
        0.25, "Positions of a group, as a share of `length`.", changes="loss", to=1 / 64, gt=0, le=1
    )

    @property
    def packs(self) -> bool:
        return False

    @property
    def group(self) -> int:
        """Positions of a group, an even number."""
        return 2 * math.ceil(self.group_ratio * self.length / 2)

    def configure(self, config: Any) -> None:
        own = getattr(config, "max_position_embeddings", None)
        scaled = getattr(config, "rope_parameters", None) or {}
        kind = scaled.get("rope_type")
        if own is None or kind is None:
            raise _refused("the positions of this model are not those of one rotary embedding", config.model_type)
        if kind not in ("default", "linear"):
            raise _refused("the positions of this model are scaled already, in another way than linear", kind)
        if self.length < own:
            raise BadInput(
                "the model takes longer sequences already", field="model.context.length", found=self.length,
                expected=f"at least {own}", hint="To train on shorter rows, set 'data.max_length'.",
            )  # fmt: skip
        factor = math.ceil(self.length / own)
        before = float(scaled.get("factor") or 1.0)
        config.rope_parameters = {**scaled, "rope_type": "linear", "factor": factor * before}
        config.max_position_embeddings = self.length

    def apply(self, model: Any) -> None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        group, taken = self.group, list[bool]()

        def attend(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
        ) -> tuple[Tensor, None]:
            taken[:] = [True]
            if any(options.get(name) is not None for name in ("softcap", "position_bias", "s_aux")):
                raise _refused("the attention of this model is more than a softmax of products", type(module).__name__)
            short = query.shape[2] <= group // 2 or query.shape[2] != key.shape[2]
            if short or not module.training:
                plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, mask, **options)
                return plain
            scale, dropout = options.get("scaling"), options.get("dropout", 0.0)
            return shifted(query, key, value, mask, group, scale, dropout).transpose(1, 2).contiguous(), None

        if model.config._attn_implementation == "sdpa":
            install(model, f"{PREFIX}longlora_{group}", attend)
            with torch.no_grad():
                model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=model.device), use_cache=False)
        if not taken:
            raise _refused("the attention of this model cannot be exchanged", type(model).__name__)


def shifted(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    group: int,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Causal attention [rows, heads, n, d] inside groups, which the second half of the heads shifts by half a group.

    `key` and `value` may have fewer heads, each serving as many of the query's; `mask` bool [rows, 1, n, n] (None: all
    before) restricts it further.
    """
    heads = query.shape[1]
    key, value = (one.repeat_interleave(heads // one.shape[1], 1) for one in (key, value))
    first, second = ([one[:, part] for one in (query, key, value)] for part in _halves(heads))
    parts = [
        grouped(first[0], first[1], first[2], mask, group, 0, scale, dropout),
        grouped(second[0], second[1], second[2], mask, group, group // 2, scale, dropout),
    ]
    return torch.cat(parts, 1)


def grouped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    group: int,
    offset: int,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Causal attention [rows, heads, n, d] inside groups of `group` positions, the first of which is `offset` long
    where that is not 0."""

    def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=allowed, dropout_p=dropout, scale=scale, is_causal=allowed is None
        )

    n, size = query.shape[2], offset or group
    if n <= size:
        return attend(query, key, value, mask)
    head, rest = slice(0, offset), slice(offset, n)
    folded = [_folded(one[:, :, rest], group) for one in (query, key, value)]
    allowed = None if mask is None else _blocks(mask[:, :, rest, rest], group)
    found = attend(folded[0], folded[1], folded[2], allowed)
    found = found.unflatten(0, (len(query), -1)).transpose(1, 2).flatten(2, 3)[:, :, : n - offset]
    if not offset:
        return found
    own = None if mask is None else mask[:, :, head, head]
    return torch.cat([attend(query[:, :, head], key[:, :, head], value[:, :, head], own), found], 2)


def _folded(values: Tensor, group: int) -> Tensor:
    """[rows, heads, n, d] as [rows x groups, heads, group, d], the last group filled up with zeros on the right, where
    nothing before them sees them."""
    full = F.pad(values, (0, 0, 0, -values.shape[2] % group))
    return full.unflatten(2, (-1, group)).transpose(1, 2).flatten(0, 1)


def _blocks(mask: Tensor, group: int) -> Tensor:
    """What a mask bool [rows, 1, n, n] allows inside groups: [rows x groups, 1, group, group].

    What fills up the last group sees anything, so that no softmax is empty, and nothing sees it.
    """
    missing = -mask.shape[-1] % group
    full = F.pad(F.pad(mask, (0, missing), value=False), (0, 0, 0, missing), value=True)
    tiles = full.unflatten(3, (-1, group)).unflatten(2, (-1, group))
    return tiles.diagonal(dim1=2, dim2=4).permute(0, 4, 1, 2, 3).flatten(0, 1)


def _halves(heads: int) -> tuple[slice, slice]:
    return slice(0, heads // 2), slice(heads // 2, heads)


def _refused(reason: str, found: str) -> BadInput:
    return BadInput(
        reason, field="model.context", found=found, expected="a model like Llama, Mistral, Qwen or GPT-NeoX",
        hint="Remove 'context', or choose another model.",
    )  # fmt: skip
