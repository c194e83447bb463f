"""Texts as vectors: the mean over tokens of a model's last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.models.generate import evaluating
from tunewright.models.load import load_body, locate, tokenizer_at
from tunewright.models.policy import Policy
from tunewright.recipe import ModelSpec

Embed = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts [n] -> vectors [n, width]; zeros for a text without a token."""

TEXTS = 32
"""Texts embedded at once."""


def embedder(policy: Policy, tokenizer: Any, named: str | None = None, trusted: bool = False) -> Embed:
    """What embeds texts: the model `named` (causal or an encoder, in float32), or the policy with its adapter off.

    A named model is loaded when it is first asked. Raises `BadInput` where it or its tokenizer cannot be loaded.
    """

    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        if named is not None:
            model, own = _loaded(named, trusted, policy.device)
            return pooled(lambda ids, mask: model(input_ids=ids, attention_mask=mask), own, texts, policy.device)
        body = lambda ids, mask: policy.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        with policy.start(), evaluating(policy):
            return pooled(body, tokenizer, texts, policy.device)

    return embed


def pooled(
    body: Callable[[Tensor, Tensor], Any], tokenizer: Any, texts: Sequence[str], device: torch.device
) -> NDArray[np.float64]:
    """h(text) = Sum_t h_t / T over the T tokens of each text: [n, width]. `body` takes ids and mask, padding last."""
    found: list[NDArray[np.float64]] = []
    every = [tokenizer(text)["input_ids"] for text in texts]
    for start in range(0, len(every), TEXTS):
        each = every[start : start + TEXTS]
        width = max(1, *map(len, each))
        ids, mask = torch.zeros(2, len(each), width, dtype=torch.int64, device=device)
        for row, own in enumerate(each):
            ids[row, : len(own)] = torch.tensor(own, dtype=torch.int64)
            mask[row, : len(own)] = 1
        with torch.no_grad():
            hidden = body(ids, mask).last_hidden_state.double()
        sums = hidden.masked_fill(mask[..., None] == 0, 0.0).sum(1)
        found.append((sums / mask.sum(1, keepdim=True).clamp(min=1)).cpu().numpy())
    return np.concatenate(found)


@lru_cache(maxsize=1)
def _loaded(named: str, trusted: bool, device: torch.device) -> tuple[Any, Any]:
    """Body and tokenizer, kept for the next measurement of a run."""
    field = "supplies.embedder"
    origin = locate(ModelSpec(path=named), field)
    body = load_body(origin, field, trust_remote_code=trusted).to(device).eval()
    return body, tokenizer_at(origin, field, trust_remote_code=trusted)
