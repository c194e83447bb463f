"""Generation held to a language: only tokens that keep an answer the beginning of a legal one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tunewright.models.generate import Step


class Language(Protocol):
    """The answers that are legal for one prompt."""

    def begins(self, answer: str) -> bool:
        """Whether some legal answer begins with this text."""

    def whole(self, answer: str) -> bool:
        """Whether this is a legal answer."""


class Constrained:
    """A logits processor: -inf for every token with which an answer would leave the language of its prompt.

    `languages` and `prompts` (lengths in tokens) are those of the prompts, in their order; `stop` are the tokens that
    end an answer, allowed where it is whole, and where no token leads on. Tokens that are no whole characters are never
    chosen; blanks before an answer do not count.
    """

    def __init__(
        self, tokenizer: Any, languages: Sequence[Language], prompts: Sequence[int], stop: frozenset[int]
    ) -> None:
        self.tokenizer, self.languages, self.prompts = tokenizer, languages, prompts
        self.stop = sorted(stop)
        self._tree = _tree(tokenizer)

    def __call__(self, logits: Tensor, step: Step) -> Tensor:
        """Logits [live, vocabulary] of the allowed tokens, -inf elsewhere."""
        held = torch.full_like(logits, -torch.inf)
        for n, row in enumerate(step.rows.tolist()):
            answer = step.ids[n, self.prompts[row] :].tolist()
            text = self.tokenizer.decode(answer, skip_special_tokens=True).lstrip()
            language = self.languages[row]
            allowed = [index for index in self._onward(self._tree, language, text) if index < logits.shape[-1]]
            if language.whole(text) or not allowed:
                allowed += self.stop
            held[n, allowed] = logits[n, allowed]
        return held

    def _onward(self, node: dict[Any, Any], language: Language, text: str) -> Iterator[int]:
        """The tokens below a node of the tree with which a text stays in the language."""
        for sign, child in node.items():
            if sign is None:
                yield from child if text else ()
            elif (not text and sign == " ") or language.begins(text + sign):
                yield from self._onward(child, language, (text + sign).lstrip())


def _tree(tokenizer: Any) -> dict[Any, Any]:
    """Tokens by the characters they add to a text: sign -> what follows, None -> the tokens that end here."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][:1]
    special = set(tokenizer.all_special_ids)
    ids = [index for index in sorted(tokenizer.get_vocab().values()) if index not in special]
    before = len(tokenizer.decode(anchor))
    root: dict[Any, Any] = {}
    for index, text in zip(ids, tokenizer.batch_decode([[*anchor, index] for index in ids]), strict=True):
        piece = text[before:]
        if piece and "\ufffd" not in piece:
            node = root
            for sign in piece:
                node = node.setdefault(sign, {})
            node.setdefault(None, []).append(index)
    return root
