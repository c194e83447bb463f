"""The format of a row: recognised by its fields, or guessed at to help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from tunewright import catalog
from tunewright.data.formats.base import Format, Read, Values
from tunewright.data.records import Record

WEIGHTS = frozenset({"loss_weight", "weight"})
"""The names under which a row says its own weight."""


def recognisable() -> list[type[Format]]:
    """Every format that is recognised by its fields, in the order in which it is tried."""
    found = [cast("type[Format]", item) for item in catalog.methods("format")]
    return sorted((item for item in found if item.precedence is not None), key=lambda item: item.precedence or 0)


def recognised(fields: Iterable[str]) -> Format | None:
    """The format of a row with these fields; those with more telling fields come first."""
    present = set(fields)
    return next((item() for item in recognisable() if item.fits(present)), None)


def known_fields() -> frozenset[str]:
    """Every field that some format reads."""
    return WEIGHTS.union(*(cast("type[Format]", item).fields() for item in catalog.methods("format")))


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


def record(
    read: Read, values: Values, used: frozenset[str], weight: float | None, number: int, file: str, line: int
) -> Record:
    """The record of a row; fields that the format did not use become columns."""
    columns = {name: value for name, value in values.items() if name not in used and value is not None}
    return Record(
        read.turns, read.style, read.rejected, read.label, 1.0 if weight is None else weight, read.tools, number, file,
        line, {**columns, **read.columns}, read.scored,
    )  # fmt: skip
