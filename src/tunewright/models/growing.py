"""Embedding rows for new tokens."""

from __future__ import annotations

from typing import Any

import torch

from tunewright.errors import BadInput
from tunewright.recipe import AddedTokens


def check_rows(model: Any, tokenizer: Any, origin: str) -> None:
    """Raises `BadInput` unless every token of a vocabulary has a row."""
    rows = model.get_input_embeddings().weight.shape[0]
    if max(tokenizer.get_vocab().values()) >= rows:
        raise BadInput(
            "the tokenizer's vocabulary is larger than the model's embedding",
            file=origin,
            field="model.path",
            found=f"a vocabulary of {len(tokenizer)} and {rows} embedding rows",
            expected="at most as many tokens as rows",
        )


@torch.no_grad()
def grow(model: Any, tokenizer: Any, plain: Any, added: AddedTokens) -> None:
    """Gives the model rows for the tokens that `tokenizer` has beyond `plain`, with the values that the recipe says."""
    before, known = model.get_input_embeddings().weight.shape[0], plain.get_vocab()
    new = {token: tokenizer.convert_tokens_to_ids(token) for token in added.tokens if token not in known}
    if not new:
        return
    pieces = {token: _pieces(plain, token) for token in new}
    model.resize_token_embeddings(max(before, len(tokenizer)), mean_resizing=False)
    head = model.get_output_embeddings()
    tables = {id(m.weight): m.weight for m in (model.get_input_embeddings(), head) if m is not None}
    for table in tables.values():
        mean = table[: max(known.values()) + 1].float().mean(0)
        for token, row in new.items():
            starts = {"zero": torch.zeros_like(mean), "mean": mean, "subwords": table[pieces[token]].float().mean(0)}
            table[row] = starts[added.init].to(table.dtype)


def _pieces(plain: Any, token: str) -> list[int]:
    ids: list[int] = plain(token, add_special_tokens=False)["input_ids"]
    return ids or [plain.eos_token_id]
