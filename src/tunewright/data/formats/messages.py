"""Chat messages with role and content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data.formats._conversations import conversation
from tunewright.data.formats.base import Format, Read, Values
from tunewright.recipe import Reading


class Messages(Format):
    """Conversations as lists of messages with `role` and `content`, tool calls and reasoning too."""

    name: ClassVar[str] = "messages"
    title: ClassVar[str] = "chat messages (role/content)"
    required: ClassVar = (("messages",),)
    optional: ClassVar = ("system", "tools")
    precedence: ClassVar[int | None] = 30
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]},
    )

    def read(self, values: Values, reading: Reading) -> Read:
        return conversation(values)
