"""A better and a worse answer to one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.data import messages
from tunewright.data.formats._conversations import answered, asked, reply
from tunewright.data.formats.base import Format, Read, Values, text_of
from tunewright.data.records import Style, Turn
from tunewright.recipe import Reading


class Preference(Format):
    """A `chosen` and a `rejected` answer to a `prompt`: texts, messages, or whole conversations each.

    Objectives of pairs learn from both; under any other the chosen answer is learned.
    """

    name: ClassVar[str] = "preference"
    title: ClassVar[str] = "preference pairs (prompt/chosen/rejected)"
    required: ClassVar = (("chosen_messages", "rejected_messages"), ("chosen", "rejected"))
    optional: ClassVar = ("prompt", "conversations", "messages", "question", "instruction", "system", "tools")
    precedence: ClassVar[int | None] = 10
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"},)

    def read(self, values: Values, reading: Reading) -> Read:
        tools = messages.tools(values.get("tools"), "tools")
        if "chosen_messages" in values:
            pair = [messages.turns(values[f"{name}_messages"], f"{name}_messages") for name in ("chosen", "rejected")]
            return _pair(pair[0], pair[1], "chat", tools, "_messages")
        field = next(
            (name for name in ("prompt", "conversations", "messages", "question", "instruction") if name in values), ""
        )
        chosen, rejected = values.get("chosen"), values.get("rejected")
        if not field:
            if is_text := isinstance(chosen, str) and isinstance(rejected, str):
                pair = [messages.dialogue(text_of(values, name), name) for name in ("chosen", "rejected")]
            if not is_text:
                pair = [reply(values, name) for name in ("chosen", "rejected")]
            return _pair(pair[0], pair[1], "chat", tools)
        before = asked(values, field)
        replies = [reply(values, name) for name in ("chosen", "rejected")]
        # Some sets repeat the whole conversation in each answer beside the prompt.
        whole = [said if len(said) > 1 and said[0].role != "assistant" else (*before, *said) for said in replies]
        plain = field == "prompt" and all(isinstance(values[name], str) for name in ("prompt", "chosen", "rejected"))
        return _pair(whole[0], whole[1], "completion" if plain and len(before) == 1 else "chat", tools)


def _pair(
    chosen: tuple[Turn, ...],
    rejected: tuple[Turn, ...],
    style: Style,
    tools: tuple[Mapping[str, Any], ...],
    suffix: str = "",
) -> Read:
    answered(chosen, f"chosen{suffix}"), answered(rejected, f"rejected{suffix}")
    return Read(chosen, style, rejected=rejected, tools=tools)
