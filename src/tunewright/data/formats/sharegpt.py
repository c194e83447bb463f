"""Conversations in the ShareGPT way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data.formats._conversations import conversation
from tunewright.data.formats.base import Format, Read, Values
from tunewright.recipe import Reading


class ShareGPT(Format):
    """Conversations as lists under `conversations`, each turn with `from` and `value`."""

    name: ClassVar[str] = "sharegpt"
    title: ClassVar[str] = "ShareGPT (conversations, from/value)"
    required: ClassVar = (("conversations",),)
    optional: ClassVar = ("system", "tools")
    precedence: ClassVar[int | None] = 40
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
    )

    def read(self, values: Values, reading: Reading) -> Read:
        return conversation(values)
