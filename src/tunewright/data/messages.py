"""Turns from the ways conversations are written: role/content, from/value, content parts, tool calls, dialogues."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tunewright.data.records import Turn
from tunewright.errors import BadInput, nearest

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant", "function_call": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool",
}  # fmt: skip
"""Name of a speaker in the rows -> role of the turn."""

_REASONING = ("reasoning_content", "reasoning", "thinking")
_DIALOGUE = re.compile(r"\n\n(Human|Assistant):")


def turns(value: Any, field: str) -> tuple[Turn, ...]:
    """The turns of a list of messages, or of a single one; each holds role and content, or from and value.

    Raises `BadInput` naming the field within the row.
    """
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, list):
        raise BadInput("not a conversation", field=field, found=value, expected="a list of messages")
    if not listed:
        raise BadInput("the conversation has no messages", field=field)
    return tuple(turn(item, f"{field}.{index}") for index, item in enumerate(listed))


def turn(message: Any, field: str) -> Turn:
    """One message as a turn."""
    if not isinstance(message, Mapping):
        raise BadInput("not a message", field=field, found=message, expected="an object with 'role' and 'content'")
    said_by, said = ("from", "value") if "from" in message else ("role", "content")
    name = message.get(said_by)
    if not isinstance(name, str) or name.lower() not in ROLES:
        hint = nearest(name.lower(), ROLES) if isinstance(name, str) else None
        known = ", ".join(sorted(ROLES))
        raise BadInput(
            "the speaker is not known", field=f"{field}.{said_by}", found=name, expected=f"one of {known}", hint=hint
        )
    if said not in message and not message.get("tool_calls"):
        raise BadInput(f"lacks '{said}'", field=f"{field}.{said}", found=list(message), expected="what is said")
    role = ROLES[name.lower()]
    text, thought, parts_calls = _content(message.get(said), f"{field}.{said}")
    calls = tuple(_calls(message.get("tool_calls") or (), f"{field}.tool_calls")) + parts_calls
    if name.lower() == "function_call":
        text, calls = "", tuple(_calls(_parsed(text, f"{field}.{said}"), f"{field}.{said}"))
    if not calls and message.get(said) is None:
        raise BadInput("nothing is said", field=f"{field}.{said}", expected="text")
    if role != "assistant" and calls:
        raise BadInput(f"a {role} turn cannot call tools", field=f"{field}.tool_calls")
    thoughts = [message[key] for key in _REASONING if message.get(key) is not None] or thought
    if any(not isinstance(item, str) for item in thoughts):
        raise BadInput("not text", field=f"{field}.reasoning", found=thoughts[0], expected="text")
    speaker, answers = (_named(message, key, field) for key in ("name", "tool_call_id"))
    return Turn(role, text, weight(message, field), "\n".join(thoughts) if thoughts else None, calls, speaker, answers)


def _named(message: Mapping[str, Any], key: str, field: str) -> str | None:
    value = message.get(key)
    if value is not None and not isinstance(value, str):
        raise BadInput("not text", field=f"{field}.{key}", found=value, expected="text")
    return value


def weight(holder: Mapping[str, Any], field: str) -> float | None:
    """The `loss_weight` (or `weight`) of a message or row, None when it has none."""
    key = next((key for key in ("loss_weight", "weight") if holder.get(key) is not None), None)
    if key is None:
        return None
    value = holder[key]
    if isinstance(value, str):  # CSV and TSV know text only
        with suppress(ValueError):
            value = float(value)
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadInput(
            "not a loss weight", field=f"{field}.{key}" if field else key, found=holder[key],
            expected="a finite number, 0 or more",
        )  # fmt: skip
    return float(value)


def tools(value: Any, field: str) -> tuple[Mapping[str, Any], ...]:
    """Descriptions of tools, given as a list or as its JSON text, each as {"type": "function", "function": {...}}."""
    listed = _parsed(value, field) if isinstance(value, str) and value.strip() else value or []
    if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in listed):
        raise BadInput("not a list of tools", field=field, found=value, expected="a list of objects, or its JSON text")
    made = []
    for index, item in enumerate(listed):
        described = item if "function" in item else {"type": "function", "function": dict(item)}
        inner = described["function"]
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise BadInput(
                "the tool has no name", field=f"{field}.{index}", found=item, expected="an object with 'name'"
            )
        made.append(described)
    return tuple(made)


def dialogue(text: str, field: str) -> tuple[Turn, ...]:
    """The turns of one text in which `\\n\\nHuman:` and `\\n\\nAssistant:` open them."""
    parts = _DIALOGUE.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise BadInput(
            "not a dialogue", field=field, found=text, expected="a text that begins with '\\n\\nHuman:'",
            hint="For pairs with a common prompt, the rows need a field 'prompt'.",
        )  # fmt: skip
    named = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Turn("user" if name == "Human" else "assistant", said.strip()) for name, said in named)


def is_dialogue(text: Any) -> bool:
    """Whether a value is such a text."""
    return isinstance(text, str) and _DIALOGUE.match(text) is not None


def _content(value: Any, field: str) -> tuple[str, list[Any], tuple[Mapping[str, Any], ...]]:
    """Text, thoughts and tool calls of a message's content."""
    if value is None:
        return "", [], ()
    if isinstance(value, str):
        return value, [], ()
    if not isinstance(value, list):
        raise BadInput("not text", field=field, found=value, expected="text, or a list of text parts")
    texts: list[str] = []
    thoughts: list[Any] = []
    calls: list[Mapping[str, Any]] = []
    for index, part in enumerate(value):
        kind, said = _part(part, f"{field}.{index}")
        if kind == "text":
            texts.append(said)
        elif kind in ("tool_call", "tool_calls"):
            calls += _calls(_parsed(said, f"{field}.{index}"), f"{field}.{index}")
        else:
            thoughts.append(said)
    return "".join(texts), thoughts, tuple(calls)


def _part(part: Any, field: str) -> tuple[str, Any]:
    if isinstance(part, str):
        return "text", part
    kind = part.get("type", "text") if isinstance(part, Mapping) else None
    if kind not in ("text", "tool_call", "tool_calls", *_REASONING):
        raise BadInput(
            "the part is not text", field=field, found=kind or part,
            expected=f"a part of type text, tool_call, {', '.join(_REASONING)}", hint="Images and sound are not read.",
        )  # fmt: skip
    said = next((part[key] for key in ("text", "value", kind) if part.get(key) is not None), None)
    if not isinstance(said, str) and not (kind.startswith("tool_call") and said is not None):
        raise BadInput("the part holds no text", field=field, found=part, expected="'text' or 'value' with text")
    return kind, said


def _calls(value: Any, field: str) -> list[Mapping[str, Any]]:
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, list | tuple):
        raise BadInput("not a tool call", field=field, found=value, expected="an object with 'name' and 'arguments'")
    made: list[Mapping[str, Any]] = []
    for index, item in enumerate(listed):
        inner = item.get("function", item) if isinstance(item, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise BadInput(
                "the tool call has no name", field=f"{field}.{index}", found=item,
                expected="an object with 'name' and 'arguments'",
            )  # fmt: skip
        arguments = inner.get("arguments", {})
        if isinstance(arguments, str):
            arguments = _parsed(arguments or "{}", f"{field}.{index}.arguments")
        if not isinstance(arguments, Mapping):
            raise BadInput("not arguments", field=f"{field}.{index}.arguments", found=arguments, expected="an object")
        known = {"id": item["id"]} if isinstance(item.get("id"), str) else {}
        made.append({**known, "type": "function", "function": {"name": inner["name"], "arguments": dict(arguments)}})
    return made


def _parsed(text: Any, field: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"not valid JSON: {error}", field=field, found=text, expected="JSON text") from None
