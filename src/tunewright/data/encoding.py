"""Text to token ids: in batches, with character offsets, and as the continuation of text before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tunewright.data.spelling import Spelled, spelled
from tunewright.errors import BadInput

Offsets = list[tuple[int, int]]

# A letter behind a line end: how it is tokenised shows whether text at the start of a string is marked.
_ANCHOR = "\n"


class Encoder:
    """The fast tokenizer behind a Hugging Face tokenizer; it adds no special tokens unless asked to.

    `prefix` and `suffix` are the special tokens that the tokenizer puts around a single text; `specials` the ids of
    all special tokens; `eos` the end token. Raises `BadInput` for a tokenizer that is not a fast one, or has no end
    token.
    """

    def __init__(self, tokenizer: Any) -> None:
        name = getattr(tokenizer, "name_or_path", "") or "the tokenizer"
        if not getattr(tokenizer, "is_fast", False):
            raise BadInput(
                "the tokenizer is not a fast one", file=name, expected="a tokenizer with a tokenizer.json",
                hint="Convert it once: AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(FOLDER).",
            )  # fmt: skip
        if tokenizer.eos_token_id is None:
            raise BadInput(
                "the tokenizer has no end token (eos), so the model could not learn to stop",
                file=name, field="eos_token", expected="a token such as '</s>'",
                hint="Set \"eos_token\" in tokenizer_config.json to one of its special tokens.",
            )  # fmt: skip
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        self.bos: int | None = tokenizer.bos_token_id
        self._backend = tokenizer.backend_tokenizer
        # A tokenizer file may ask for truncation or padding; neither belongs into training data.
        self._backend.no_truncation()
        self._backend.no_padding()
        self.prefix, self.suffix = self._around()
        self.specials = frozenset(tokenizer.all_special_ids) | {
            index for index, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        self._marks_starts = self.ids(["a"])[0] != self._behind(["a"])[0]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens added."""
        return [made.ids for made in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def with_offsets(self, texts: Sequence[str]) -> list[tuple[list[int], Offsets]]:
        """Token ids of each text, and the characters [start, end) that each token stands for."""
        return [(made.ids, made.offsets) for made in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def continued(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text as it stands behind other text.

        Tokenizers that mark the start of a string (by a space put in front) would otherwise put that mark here.
        """
        return self._behind(texts) if self._marks_starts else self.ids(texts)

    def spelled(self, ids: Sequence[int]) -> Spelled:
        """The text of token ids without special tokens, and the characters of each."""
        return spelled(ids, lambda part: str(self._backend.decode(list(part), skip_special_tokens=True)))

    def name(self, index: int) -> str:
        """The text of one token, special tokens visible."""
        return str(self.tokenizer.convert_ids_to_tokens(index))

    @property
    def digest(self) -> str:
        """Hash of everything that decides how text becomes tokens."""
        tokenizer = self.tokenizer
        parts = [
            self._backend.to_str(),
            json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str),
            json.dumps(tokenizer.chat_template, sort_keys=True),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _behind(self, texts: Sequence[str]) -> list[list[int]]:
        anchor = self.ids([_ANCHOR])[0]
        made = []
        for text, ids in zip(texts, self.ids([_ANCHOR + text for text in texts]), strict=True):
            made.append(ids[len(anchor) :] if ids[: len(anchor)] == anchor else self.ids([text])[0])
        return made

    def _around(self) -> tuple[list[int], list[int]]:
        bare, whole = (self._backend.encode("a", add_special_tokens=added).ids for added in (False, True))
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        return [], []
