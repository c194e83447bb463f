"""A text and its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data.formats.base import Format, Read, Values, text_of, word
from tunewright.data.records import Turn
from tunewright.errors import BadInput
from tunewright.recipe import Reading

PROMPT = "{text}\nLabel:"
"""What stands around a classified text unless the source says otherwise."""


class Classification(Format):
    """A `text` (or `sentence`) and its `label`, answered in words.

    The source's `labels` map a class to its words, its `prompt` is what stands around the text.
    """

    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "classification (text/label)"
    required: ClassVar = (("text", "label"), ("sentence", "label"))
    precedence: ClassVar[int | None] = 80
    reads: ClassVar[frozenset[str]] = frozenset({"labels", "prompt"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"text": "A fine film.", "label": "positive"},)

    def read(self, values: Values, reading: Reading) -> Read:
        field = "text" if values.get("text") is not None else "sentence"
        around = reading.prompt if reading.prompt is not None else PROMPT
        if "{text}" not in around:
            raise BadInput(
                "leaves no place for the text", field="prompt", found=around, expected="a text with '{text}' in it"
            )
        value = values.get("label")
        if value is None or isinstance(value, list | Mapping):
            raise BadInput("not a class", field="label", found=value, expected="a word or number")
        name = word(value)
        if reading.labels and name not in reading.labels:
            known = ", ".join(reading.labels)
            raise BadInput(
                "the class has no words", field="label", found=value, expected=f"one of {known}",
                hint="Add it to 'labels'.",
            )  # fmt: skip
        label = reading.labels.get(name, name)
        asked = around.replace("{text}", text_of(values, field))
        return Read((Turn("user", asked), Turn("assistant", f" {label}")), "completion", label=label)
