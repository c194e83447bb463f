"""What a chat template leaves out of a conversation without a word."""

from __future__ import annotations

from collections.abc import Callable

from tunewright.data.records import Record, Turn
from tunewright.errors import BadInput

WORD = "Zqxjv"

_ASKED, _SAID = Turn("user", "Q"), Turn("assistant", "A")
_CALL = {"type": "function", "function": {"name": WORD, "arguments": {}}}
_CALLING = Turn("assistant", "", calls=({**_CALL, "function": {"name": "f", "arguments": {}}},))

SAMPLES = {
    "system turns": (Turn("system", WORD), _ASKED, _SAID),
    "tool turns": (_ASKED, _CALLING, Turn("tool", WORD, name="f"), _SAID),
    "tool calls": (_ASKED, Turn("assistant", "", calls=(_CALL,))),
    "reasoning": (_ASKED, Turn("assistant", "A", reasoning=WORD)),
}
"""Part of a conversation -> a short one in which a word of its own stands there."""


def left_out(write: Callable[[Record], str]) -> frozenset[str]:
    """The parts that a template drops; one that it refuses is not dropped, since a row with it is refused too."""
    found = set()
    for part, turns in SAMPLES.items():
        try:
            if WORD not in write(Record(turns, "chat")):
                found.add(part)
        except BadInput:
            continue
    return frozenset(found)


def parts(record: Record) -> frozenset[str]:
    """Which of these parts a record has; reasoning counts in the turn that is answered last."""
    roles = {turn.role for turn in record.turns if turn.content.strip()}
    there = {
        "system turns": "system" in roles,
        "tool turns": "tool" in roles,
        "tool calls": any(turn.calls for turn in record.turns),
        "reasoning": bool(record.turns[-1].reasoning),
    }
    return frozenset(part for part, is_there in there.items() if is_there)
