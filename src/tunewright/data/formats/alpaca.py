"""Instructions with an input and an output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data.formats._conversations import opening
from tunewright.data.formats.base import Format, Read, Values, text_of
from tunewright.data.records import Turn
from tunewright.recipe import Reading


class Alpaca(Format):
    """An `instruction`, the `input` it works on (it follows after an empty line), and the `output` to learn."""

    name: ClassVar[str] = "alpaca"
    title: ClassVar[str] = "Alpaca (instruction/input/output)"
    required: ClassVar = (("instruction", "output"),)
    optional: ClassVar = ("input", "system")
    precedence: ClassVar[int | None] = 50
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"instruction": "Add the numbers.", "input": "2, 2", "output": "4"},
    )

    def read(self, values: Values, reading: Reading) -> Read:
        given = values.get("input")
        instruction = text_of(values, "instruction")
        asked = instruction if given in (None, "") else f"{instruction}\n\n{text_of(values, 'input')}"
        return Read((*opening(values), Turn("user", asked), Turn("assistant", text_of(values, "output"))), "chat")
