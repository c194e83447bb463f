"""A question and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data.formats._conversations import asked
from tunewright.data.formats.base import Format, Read, Values, text_of
from tunewright.data.records import Turn
from tunewright.recipe import Reading


class Question(Format):
    """A `question` and its `answer`, as a conversation of two turns."""

    name: ClassVar[str] = "question"
    title: ClassVar[str] = "question and answer"
    required: ClassVar = (("question", "answer"),)
    optional: ClassVar = ("system",)
    precedence: ClassVar[int | None] = 70
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"question": "2 + 2?", "answer": "4"},)

    def read(self, values: Values, reading: Reading) -> Read:
        return Read((*asked(values, "question"), Turn("assistant", text_of(values, "answer"))), "chat")
