"""A prompt and what follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data.formats._conversations import completion
from tunewright.data.formats.base import Format, Read, Values
from tunewright.recipe import Reading


class Completion(Format):
    """A `prompt` and its `completion`, as texts that are joined as they are, or as messages."""

    name: ClassVar[str] = "completion"
    title: ClassVar[str] = "prompt and completion"
    required: ClassVar = (("prompt", "completion"),)
    optional: ClassVar = ("system", "tools")
    precedence: ClassVar[int | None] = 60
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"prompt": "2 + 2 =", "completion": " 4"},)

    def read(self, values: Values, reading: Reading) -> Read:
        return completion(values)
