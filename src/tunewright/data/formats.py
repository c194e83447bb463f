"""The formats rows come in: recognised by their fields, and turned into records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.data import messages
from tunewright.data.records import Record, Style, Turn
from tunewright.errors import BadInput
from tunewright.recipe import SourceSpec

PROMPT = "{text}\nLabel:"
"""What stands around a classified text unless the source says otherwise."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """What a format makes of a row: the turns and what belongs to them."""

    turns: tuple[Turn, ...]
    style: Style
    rejected: tuple[Turn, ...] | None = None
    label: str | bool | None = None
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Format:
    """A way of writing rows. A row is of this format when it has all the fields of one of `needs`."""

    name: str
    title: str
    needs: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...]
    read: Callable[[Values, SourceSpec], Read]

    def fits(self, fields: Iterable[str]) -> bool:
        """Whether a row with these fields is of this format."""
        return any(set(need) <= set(fields) for need in self.needs)

    @property
    def fields(self) -> frozenset[str]:
        """Every field the format reads."""
        return frozenset(name for need in self.needs for name in need) | frozenset(self.optional)


def recognised(fields: Iterable[str]) -> Format | None:
    """The format of a row with these fields; the one that needs most comes first."""
    present = set(fields)
    return next((item for item in FORMATS if item.fits(present)), None)


def suggestion(fields: Iterable[str]) -> str:
    """A likely `fields` mapping for a row whose format is not recognised."""
    present = {name.lower().replace(" ", "_"): name for name in fields}
    prompt = next((present[name] for name in _LIKE_PROMPT if name in present), None)
    answer = next((present[name] for name in _LIKE_ANSWER if name in present and present[name] != prompt), None)
    if prompt and answer:
        pair = {"prompt": prompt, "completion": answer}
    elif label := next((present[name] for name in ("label", "class", "target", "category") if name in present), None):
        text = next((name for name in present.values() if name != label), "TEXT")
        pair = {"text": text, "label": label}
    else:
        pair = {"prompt": "...", "completion": "..."}
    told = ", ".join(f"{ours}: {theirs}" for ours, theirs in pair.items() if ours != theirs)
    return f"Name the fields: 'fields: {{{told}}}', or convert the rows with 'function: FILE.py:NAME'."


_LIKE_PROMPT = ("prompt", "question", "instruction", "problem", "query", "input", "source", "text", "document", "body")
_LIKE_ANSWER = (
    "completion", "answer", "response", "output", "solution", "best_answer", "target", "summary", "code", "reply",
)  # fmt: skip


def text_of(values: Values, field: str) -> str:
    """The text in a field of a row; numbers count as their digits.

    Raises `BadInput` when the field is missing or holds anything else.
    """
    value = values.get(field)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is None:
        raise BadInput("missing", field=field, found=f"a row with {', '.join(values) or 'no fields'}", expected="text")
    raise BadInput("of the wrong type", field=field, found=value, expected="text")


def word(value: Any) -> str:
    """A class value as the recipe's `labels` name it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _asked(values: Values, field: str) -> tuple[Turn, ...]:
    """The turns before the answer: a conversation, or one question with the row's system text before it."""
    if isinstance(values.get(field), list):
        return messages.turns(values[field], field)
    system = values.get("system")
    before = (Turn("system", system),) if isinstance(system, str) and system else ()
    return (*before, Turn("user", text_of(values, field)))


def _answered(turns: tuple[Turn, ...], field: str) -> tuple[Turn, ...]:
    if turns[-1].role != "assistant":
        raise BadInput(
            f"the conversation ends with a {turns[-1].role} turn", field=field,
            expected="an assistant turn, the one that is learned",
        )  # fmt: skip
    return turns


def _conversation(values: Values, field: str) -> tuple[Turn, ...]:
    turns = messages.turns(values[field], field)
    system = values.get("system")
    if isinstance(system, str) and system and turns[0].role != "system":
        turns = (Turn("system", system), *turns)
    if not any(turn.role == "assistant" for turn in turns):
        raise BadInput("no assistant turn: nothing to learn", field=field, found=[turn.role for turn in turns])
    return turns


def _conversations(values: Values, source: SourceSpec) -> Read:
    field = "messages" if values.get("messages") is not None else "conversations"
    turns = _conversation(values, field)
    _answered(turns, f"{field}.{len(values[field]) - 1}")
    return Read(turns, "chat", tools=messages.tools(values.get("tools"), "tools"))


def _alpaca(values: Values, source: SourceSpec) -> Read:
    given = values.get("input")
    instruction = text_of(values, "instruction")
    asked = instruction if given in (None, "") else f"{instruction}\n\n{text_of(values, 'input')}"
    system = values.get("system")
    before = (Turn("system", system),) if isinstance(system, str) and system else ()
    return Read((*before, Turn("user", asked), Turn("assistant", text_of(values, "output"))), "chat")


def _question(values: Values, source: SourceSpec) -> Read:
    return Read((*_asked(values, "question"), Turn("assistant", text_of(values, "answer"))), "chat")


def _completion(values: Values, source: SourceSpec) -> Read:
    if isinstance(values.get("prompt"), list) or isinstance(values.get("completion"), list):
        turns = (*_asked(values, "prompt"), *_reply(values, "completion"))
        return Read(_answered(turns, "completion"), "chat", tools=messages.tools(values.get("tools"), "tools"))
    return Read(
        (Turn("user", text_of(values, "prompt")), Turn("assistant", text_of(values, "completion"))), "completion"
    )


def _reply(values: Values, field: str) -> tuple[Turn, ...]:
    value = values.get(field)
    if isinstance(value, list | Mapping):
        return messages.turns(value, field)
    return (Turn("assistant", text_of(values, field)),)


def _preference(values: Values, source: SourceSpec) -> Read:
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
            pair = [_reply(values, name) for name in ("chosen", "rejected")]
        return _pair(pair[0], pair[1], "chat", tools)
    asked = _asked(values, field)
    replies = [_reply(values, name) for name in ("chosen", "rejected")]
    # Some sets repeat the whole conversation in each answer beside the prompt.
    whole = [reply if len(reply) > 1 and reply[0].role != "assistant" else (*asked, *reply) for reply in replies]
    plain = field == "prompt" and all(isinstance(values[name], str) for name in ("prompt", "chosen", "rejected"))
    return _pair(whole[0], whole[1], "completion" if plain and len(asked) == 1 else "chat", tools)


def _pair(
    chosen: tuple[Turn, ...],
    rejected: tuple[Turn, ...],
    style: Style,
    tools: tuple[Mapping[str, Any], ...],
    suffix: str = "",
) -> Read:
    _answered(chosen, f"chosen{suffix}"), _answered(rejected, f"rejected{suffix}")
    return Read(chosen, style, rejected=rejected, tools=tools)


def _unpaired(values: Values, source: SourceSpec) -> Read:
    given = values.get("label")
    judged = {"true": True, "false": False, "1": True, "0": False}.get(word(given).lower())
    if judged is None:
        raise BadInput("not a judgement", field="label", found=given, expected="true or false")
    if values.get("messages") is not None or values.get("conversations") is not None:
        read = _conversations(values, source)
    else:
        read = _completion(values, source)
    return Read(read.turns, read.style, label=judged, tools=read.tools)


def _classification(values: Values, source: SourceSpec) -> Read:
    field = "text" if values.get("text") is not None else "sentence"
    around = source.prompt if source.prompt is not None else PROMPT
    if "{text}" not in around:
        raise BadInput(
            "leaves no place for the text", field="prompt", found=around, expected="a text with '{text}' in it"
        )
    value = values.get("label")
    if value is None or isinstance(value, list | Mapping):
        raise BadInput("not a class", field="label", found=value, expected="a word or number")
    name = word(value)
    if source.labels and name not in source.labels:
        known = ", ".join(source.labels)
        raise BadInput(
            "the class has no words", field="label", found=value, expected=f"one of {known}", hint="Add it to 'labels'."
        )
    label = source.labels.get(name, name)
    asked = around.replace("{text}", text_of(values, field))
    return Read((Turn("user", asked), Turn("assistant", f" {label}")), "completion", label=label)


def _text(values: Values, source: SourceSpec) -> Read:
    return Read((Turn("assistant", text_of(values, "text")),), "text")


CLASSIFICATION = Format(
    "classification", "classification (text/label)", (("text", "label"), ("sentence", "label")), (), _classification
)

FORMATS = (
    Format(
        "preference", "preference pairs (prompt/chosen/rejected)",
        (("chosen_messages", "rejected_messages"), ("chosen", "rejected")),
        ("prompt", "conversations", "messages", "question", "instruction", "system", "tools"), _preference,
    ),
    Format(
        "unpaired", "unpaired judgements (prompt/completion/label)",
        (("messages", "label"), ("conversations", "label"), ("prompt", "completion", "label")),
        ("system", "tools"), _unpaired,
    ),
    Format("messages", "chat messages (role/content)", (("messages",),), ("system", "tools"), _conversations),
    Format(
        "sharegpt", "ShareGPT (conversations, from/value)", (("conversations",),), ("system", "tools"), _conversations,
    ),
    Format("alpaca", "Alpaca (instruction/input/output)", (("instruction", "output"),), ("input", "system"), _alpaca),
    Format("completion", "prompt and completion", (("prompt", "completion"),), ("system", "tools"), _completion),
    Format("question", "question and answer", (("question", "answer"),), ("system",), _question),
    CLASSIFICATION,
    Format("text", "plain text", (("text",),), (), _text),
)  # fmt: skip
"""Every format, those with more telling fields first."""

KNOWN_FIELDS = frozenset(name for item in FORMATS for name in item.fields) | {"loss_weight", "weight"}


def record(
    read: Read, values: Values, used: frozenset[str], weight: float | None, number: int, file: str, line: int
) -> Record:
    """The record of a row; fields that the format did not use become columns."""
    columns = {name: value for name, value in values.items() if name not in used and value is not None}
    return Record(
        read.turns, read.style, read.rejected, read.label, 1.0 if weight is None else weight, read.tools, number, file,
        line, columns,
    )  # fmt: skip
