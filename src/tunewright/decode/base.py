"""The Decoder protocol: what changes the probabilities of the next token while the tuned model answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from tunewright.catalog import Method
from tunewright.models.generate import LogitsProcessor


class Decoder(Method):
    """A specification of what happens to the logits before a token is chosen.

    Decoders form a stack: each sees what the one before it made. They belong to the tuned model, like its adapter, and
    are off where the adapter is: the base model answers without them. An exported checkpoint does not hold them.
    """

    kind: ClassVar[str] = "decoder"

    @abstractmethod
    def processor(self, tokenizer: Any, prompts: Sequence[Sequence[int]], stop: frozenset[int]) -> LogitsProcessor:
        """What acts while these prompts (token ids) are answered; `stop` are the ids that end an answer.

        What it does to a row depends on that row alone, and it leaves the logits it was given as they are. Called
        without prompts before training, so that a faulty option is found then. Raises `BadInput` naming the option that
        the tokenizer cannot serve.
        """
