"""A new vocabulary learned on the base model, carried over into a tuned one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.models.load import load, named, tokenizer_at
from tunewright.models.vocabulary._pieces import pieces, pooled
from tunewright.models.vocabulary.base import Vocabulary, carried, tables
from tunewright.recipe import ModelSpec


class LearnedEmbeddingPropagation(Vocabulary):
    """Gives a tuned model the tokens that a donor learned on its base model, through a linear map between the two.

    With E_S the rows of the base model, E_T those of the tuned one and E_D those of the donor, which is the base with the
    new tokenizer and rows trained on plain text: E_new = E_D M, where X M ~ Y by least squares in float64, as
    M = I + pinv(X) (Y - X), which leaves directions alone that the pairs do not span. The pairs (X, Y): in mode
    `conversion` the means of E_S and of E_T over the old tokens that each new token is made of; in `overlap` the rows of
    tokens that both vocabularies have; `direct` takes M = I. Input embeddings and output head each have their own map,
    or one where they are one matrix. Special and added tokens of the tuned model keep their rows, roles and chat
    template.

    Without `base` the donor is only read for its tokenizer, and a new row is the mean of its pieces in the model itself:
    that begins a donor (`model: {path: BASE, vocabulary: {method: learned_embedding_propagation, donor: TOKENIZER}}` on
    text, with an adapter that trains the embeddings and the head alone), which is exported merged and named here.

    When to use: another language or field, for which the tuned model has no tuning data; 3 to 4 tokens per word become
    one or two. When not: the tuned model's own data is at hand: then train on it under the new vocabulary.
    """

    name: ClassVar[str] = "learned_embedding_propagation"
    files: ClassVar[tuple[str, ...]] = ("donor", "base")
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Facilitating large language model Russian adaptation with Learned Embedding Propagation",
            arxiv="2412.21140",
            card=151,
        ),
    )

    donor: str = option(
        ..., "Folder or hub id of the donor; without `base`, of a tokenizer.", changes="tokens", to="donor",
        given={"vocabulary.donor": "other"},
    )  # fmt: skip
    base: str | None = option(
        None, "The model that both the tuned one and the donor come from.", changes="output", to="base"
    )
    mode: Literal["conversion", "overlap", "direct"] = option(
        "conversion", "Which rows the map is fitted to: pieces of new tokens, tokens in common, or none.",
        changes="output", to="overlap", given={"vocabulary.base": "base"},
    )  # fmt: skip

    def words(self) -> Any:
        return tokenizer_at(named(self.donor), "model.vocabulary.donor")

    def rows(self, tables: Sequence[Tensor], own: Any, new: Any) -> list[Tensor]:
        made_of = pieces(own, new)
        if self.base is None:
            return [pooled(table, made_of) for table in tables]
        start, words = self._read("base", tables)
        if any(own.get_vocab().get(token, number) != number for token, number in words.get_vocab().items()):
            raise self._apart("base", "another vocabulary than the model that is tuned")
        donor, _ = self._read("donor", tables)
        kept, known = carried(own, new), min(len(table) for table in start)
        taken = [number for number in range(len(made_of)) if number not in kept]
        if self.mode == "overlap":
            names, there = {i: name for name, i in new.get_vocab().items()}, own.get_vocab()
            taken = [number for number in taken if names.get(number) in there]
        pairs = [made_of[number] for number in taken if made_of[number] and max(made_of[number]) < known]
        made = []
        for mine, first, learned in zip(tables, start, donor, strict=True):
            found = pooled(mine, made_of)
            rows = learned[: len(found)]
            if self.mode != "direct" and pairs:
                rows = rows @ mapping(pooled(first, pairs), pooled(mine, pairs))
            # Tokens that only the tuned model has lie behind the donor's; theirs are kept as they are.
            found[: len(rows)] = rows
            made.append(found)
        return made

    def _read(self, which: Literal["base", "donor"], wanted: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """The tables float64 and the tokenizer of another model of the same shape."""
        loaded = load(ModelSpec(path=str(getattr(self, which))))
        found = [table.double() for table in tables(loaded.policy.model)]
        if [table.shape[1] for table in found] != [table.shape[1] for table in wanted]:
            raise self._apart(which, "embeddings of another shape than the model that is tuned")
        return found, loaded.tokenizer

    def _apart(self, which: str, what: str) -> BadInput:
        return BadInput(
            f"the {which} has {what}", field=f"model.vocabulary.{which}", found=getattr(self, which),
            expected="models of one family: the base, the one tuned from it, and the donor made from it",
        )  # fmt: skip


def mapping(x: Tensor, y: Tensor) -> Tensor:
    """M [width, width] of least squares with x M ~ y, the identity on directions that the rows of x do not span."""
    x, y = x.cpu(), y.cpu()
    return torch.eye(x.shape[1], dtype=x.dtype) + torch.linalg.lstsq(x, y - x, driver="gelsd").solution
