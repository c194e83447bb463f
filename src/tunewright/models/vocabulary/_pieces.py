"""What the tokens of one tokenizer are made of in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ANCHOR = "a"
"""A text before the token's own, since decoders drop a space that begins a text."""


def pieces(own: Any, new: Any) -> list[list[int]]:
    """For every id of the tokenizer `new` the ids of `own` that its token is made of; none where it has no text there.

    A token that both have, as its name in the vocabulary, is its own piece. Else its name is cut by the model of `own`,
    which is right where both write bytes and spaces alike; else its text is.
    """
    vocabulary, found = own.get_vocab(), list[list[int]]()
    cut = own.backend_tokenizer.model.tokenize
    [*before], unknown = new(ANCHOR, add_special_tokens=False)["input_ids"], own.unk_token_id
    start = len(new.decode(before))
    names = {number: name for name, number in new.get_vocab().items()}
    for number in range(max(names) + 1):
        name = names.get(number, "")
        if name in vocabulary:
            found.append([vocabulary[name]])
            continue
        parts = cut(name)
        ids = [part.id for part in parts]
        if not name or "".join(part.value for part in parts) != name:
            text = new.decode([*before, number])[start:] if name else ""
            # A part of a character has no text.
            ids = own(text, add_special_tokens=False)["input_ids"] if "\ufffd" not in text else []
        found.append([one for one in ids if one != unknown])
    return found


def pooled(table: Tensor, made_of: Sequence[Sequence[int]]) -> Tensor:
    """The mean [tokens, width] of the rows that each token is made of; of all rows where it is of none."""
    flat = torch.tensor([one for ids in made_of for one in ids], dtype=torch.int64)
    counts = torch.tensor([len(ids) for ids in made_of])
    means = F.embedding_bag(flat, table, counts.cumsum(0) - counts, mode="mean")
    return torch.where((counts > 0)[:, None], means, table.mean(0))
