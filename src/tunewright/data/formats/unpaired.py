"""Answers judged one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from tunewright.data.formats._conversations import completion, conversation
from tunewright.data.formats.base import Format, Read, Values, word
from tunewright.errors import BadInput
from tunewright.recipe import Reading


class Unpaired(Format):
    """A `prompt` and `completion` (or a conversation) with a `label`: true for a good answer, false for a bad one.

    Under an objective that learns from good answers alone, rows judged false are left out.
    """

    name: ClassVar[str] = "unpaired"
    title: ClassVar[str] = "unpaired judgements (prompt/completion/label)"
    required: ClassVar = (("messages", "label"), ("conversations", "label"), ("prompt", "completion", "label"))
    optional: ClassVar = ("system", "tools")
    precedence: ClassVar[int | None] = 20
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"prompt": "2 + 2 =", "completion": " 4", "label": True},)

    def read(self, values: Values, reading: Reading) -> Read:
        given = values.get("label")
        judged = {"true": True, "false": False, "1": True, "0": False}.get(word(given).lower())
        if judged is None:
            raise BadInput("not a judgement", field="label", found=given, expected="true or false")
        is_talk = values.get("messages") is not None or values.get("conversations") is not None
        return replace(conversation(values) if is_talk else completion(values), label=judged)
