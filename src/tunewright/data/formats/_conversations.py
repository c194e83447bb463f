"""What formats of questions, answers and conversations share."""

from __future__ import annotations

from collections.abc import Mapping

from tunewright.data import messages
from tunewright.data.formats.base import Read, Values, text_of
from tunewright.data.records import Turn
from tunewright.errors import BadInput


def opening(values: Values) -> tuple[Turn, ...]:
    """The turn of the row's system text, if it has one."""
    system = values.get("system")
    return (Turn("system", system),) if isinstance(system, str) and system else ()


def asked(values: Values, field: str) -> tuple[Turn, ...]:
    """The turns before the answer: a conversation, or one question with the row's system text before it."""
    if isinstance(values.get(field), list):
        return messages.turns(values[field], field)
    return (*opening(values), Turn("user", text_of(values, field)))


def reply(values: Values, field: str) -> tuple[Turn, ...]:
    """The turns of an answer: messages, or one text."""
    value = values.get(field)
    if isinstance(value, list | Mapping):
        return messages.turns(value, field)
    return (Turn("assistant", text_of(values, field)),)


def answered(turns: tuple[Turn, ...], field: str) -> tuple[Turn, ...]:
    """The turns, which must end with an answer."""
    if turns[-1].role != "assistant":
        raise BadInput(
            f"the conversation ends with a {turns[-1].role} turn", field=field,
            expected="an assistant turn, the one that is learned",
        )  # fmt: skip
    return turns


def conversation(values: Values) -> Read:
    """A whole conversation under `messages` or `conversations`, with the row's system text and tools."""
    field = "messages" if values.get("messages") is not None else "conversations"
    turns = messages.turns(values[field], field)
    if turns[0].role != "system":
        turns = (*opening(values), *turns)
    if not any(turn.role == "assistant" for turn in turns):
        raise BadInput("no assistant turn: nothing to learn", field=field, found=[turn.role for turn in turns])
    answered(turns, f"{field}.{len(values[field]) - 1}")
    return Read(turns, "chat", tools=messages.tools(values.get("tools"), "tools"))


def completion(values: Values) -> Read:
    """A prompt and its completion, each a text or messages."""
    if isinstance(values.get("prompt"), list) or isinstance(values.get("completion"), list):
        turns = (*asked(values, "prompt"), *reply(values, "completion"))
        return Read(answered(turns, "completion"), "chat", tools=messages.tools(values.get("tools"), "tools"))
    return Read(
        (Turn("user", text_of(values, "prompt")), Turn("assistant", text_of(values, "completion"))), "completion"
    )
