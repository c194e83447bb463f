"""What a skill is: it draws problems with a known answer, at several levels, and verifies any answer to them."""

from __future__ import annotations

import json
import random
import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar

Row = dict[str, Any]
"""A record in a standard format: `{"messages": [...], "answer": ...}` (with `tools` where tools are offered) or
`{"text": ...}`. The last message is the reply that is graded; everything before it is the prompt."""

MARK = "####"
"""Stands before the final answer of a worked solution."""


class Skill(ABC):
    """One ability with ground truth. A subclass in `skills/` is found by being there."""

    name: ClassVar[str]
    levels: ClassVar[tuple[int, ...]]
    """Difficulties, from easy to hard."""

    @abstractmethod
    def draw(self, rng: random.Random, level: int) -> Row:
        """A problem of this level with its reference reply and its canonical `answer`."""

    @abstractmethod
    def verify(self, row: Row, text: str) -> bool:
        """Whether `text` is a right reply to the row's prompt. Any text is allowed, and never raises."""


def asked(question: str, reply: str, answer: str, **columns: Any) -> Row:
    """A row of one question and one reply."""
    return said([("user", question), ("assistant", reply)], answer, **columns)


def said(turns: list[tuple[str, str]], answer: str, **columns: Any) -> Row:
    """A row of several turns, each a role and what was said; the last turn is the graded reply."""
    return {
        "messages": [{"role": role, "content": content} for role, content in turns],
        "answer": answer,
        **columns,
    }


def reply(row: Row) -> str:
    """The reference reply as the model would write it: the last message's text, or its tool calls, one per line."""
    last = row["messages"][-1]
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in last.get("tool_calls", ())]
    return "\n".join([last["content"], *calls] if last.get("content") else calls)


def prompt(row: Row) -> str:
    """What identifies a row: everything before the graded reply, or the whole of a plain text."""
    return row["text"] if "text" in row else json.dumps(row["messages"][:-1], sort_keys=True)


def marked(text: str) -> str | None:
    """What stands after the last `####`, or None if there is no mark."""
    _, mark, tail = text.rpartition(MARK)
    return plain(tail) if mark else None


def plain(text: str) -> str:
    """Case, outer white space and a closing full stop do not count."""
    return text.strip().removesuffix(".").strip().lower()


def says(text: str, value: str, among: frozenset[str]) -> bool:
    """Whether the text names `value` (as whole words) and none of the other possible values."""
    longest_first = sorted({one.lower() for one in among | {value}}, key=lambda one: (-len(one), one))
    pattern = rf"\b({'|'.join(map(re.escape, longest_first))})\b"
    return set(re.findall(pattern, text.lower())) == {value.lower()}
