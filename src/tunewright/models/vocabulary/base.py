"""The Vocabulary protocol: another tokenizer for a trained model, and rows for its tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tunewright.catalog import Method

ROLES = ("bos_token", "eos_token", "pad_token")
"""What a model's special tokens are for: the new tokenizer takes them over."""


class Vocabulary(Method):
    """A specification of where another tokenizer and the rows of its tokens come from.

    A *table* holds a model's rows, one per token id: the input embeddings, and the output head where it is not the same
    matrix, with the head's bias as its last column.
    """

    kind: ClassVar[str] = "vocabulary"

    @abstractmethod
    def words(self) -> Any:
        """The tokenizer whose words the model is to read and write. Raises `BadInput` where there is none."""

    @abstractmethod
    def rows(self, tables: Sequence[Tensor], own: Any, new: Any) -> list[Tensor]:
        """The new tables [ids of `new`, width], float64, from the model's `tables` [ids of `own`, width], float64.

        Raises `BadInput` where models do not fit together.
        """

    def tokenizer(self, own: Any) -> Any:
        """The words with the special and added tokens, their roles and the chat template of the model's `own`."""
        new = self.words()
        for token in own.added_tokens_decoder.values():
            new.add_tokens([token], special_tokens=token.special)
        for role in ROLES:
            setattr(new, role, getattr(own, role))
        new.chat_template = own.chat_template
        return new

    @torch.no_grad()
    def apply(self, model: Any, own: Any, new: Any) -> None:
        """Gives the loaded model the rows of the tokenizer `new` (as `tokenizer` made it) instead of those of its
        `own`. Added tokens of its own keep their rows, bit for bit, and settings name them by their new ids."""
        before = tables(model)
        after = self.rows([table.double().cpu() for table in before], own, new)
        kept = carried(own, new)
        model.resize_token_embeddings(len(after[0]), mean_resizing=False)
        for module, old, table in zip(_holders(model), before, after, strict=True):
            found = table.to(old)
            found[list(kept)] = old[list(kept.values())]
            module.weight.copy_(found[:, : module.weight.shape[1]])
            if (bias := getattr(module, "bias", None)) is not None:
                bias.copy_(found[:, -1])
        known = {number: token for token, number in own.get_vocab().items()}
        every = (model.config, model.config.get_text_config(), model.generation_config)
        for settings in {id(one): one for one in every}.values():
            for name in (f"{role}_id" for role in ROLES):
                ids = getattr(settings, name, None)
                listed = ids if isinstance(ids, list | tuple) else [ids]
                moved = [new.convert_tokens_to_ids(known[number]) for number in listed if number in known]
                setattr(settings, name, moved if isinstance(ids, list | tuple) else next(iter(moved), None))


def tables(model: Any) -> list[Tensor]:
    """A model's tables, copied: one where the head is the input embeddings, else two."""
    return [_table(module).clone() for module in _holders(model)]


def carried(own: Any, new: Any) -> dict[int, int]:
    """The ids in `new` of the special and added tokens that `own` has -> their ids there."""
    vocabulary = own.get_vocab()
    special = {token.content for token in new.added_tokens_decoder.values()}
    return {new.convert_tokens_to_ids(token): vocabulary[token] for token in sorted(special) if token in vocabulary}


def _holders(model: Any) -> list[Any]:
    first, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or (head.weight is first.weight and getattr(head, "bias", None) is None)
    return [first] if tied else [first, head]


def _table(module: Any) -> Tensor:
    weight: Tensor = module.weight.detach()
    bias: Tensor | None = getattr(module, "bias", None)
    return weight if bias is None else torch.cat([weight, bias.detach()[:, None]], 1)
