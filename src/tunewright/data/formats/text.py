"""Plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data.formats.base import Format, Read, Values, text_of
from tunewright.data.records import Turn
from tunewright.recipe import Reading


class Text(Format):
    """A `text`, all of which is learned as it is."""

    name: ClassVar[str] = "text"
    title: ClassVar[str] = "plain text"
    required: ClassVar = (("text",),)
    precedence: ClassVar[int | None] = 90
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"text": "Two and two is four."},)

    def read(self, values: Values, reading: Reading) -> Read:
        return Read((Turn("assistant", text_of(values, "text")),), "text")
