"""Rewriting as edits over the words of a text: found, written, read again and applied."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal, NamedTuple

NONE = "None"
"""The word that stands for no replacement (a deletion), and alone for no edit."""

Align = Literal["difflib", "cost"]


class Edit(NamedTuple):
    """Words [start, end) of the source are replaced; start = end inserts, no words delete."""

    start: int
    end: int
    words: tuple[str, ...]


def edits(source: Sequence[str], target: Sequence[str], align: Align = "difflib") -> list[Edit]:
    """The edits that turn the words of `source` into those of `target`, ordered, apart by at least one kept word.

    `difflib` keeps the longest matching runs; `cost` finds the cheapest way of deletions and insertions (1 each),
    substitutions (between 0.5 and 2, less for words with similar letters) and swaps of neighbours (1).
    """
    kept = _matching_runs(source, target) if align == "difflib" else _cheapest(source, target)
    found: list[Edit] = []
    i = j = 0
    for start, other in [*kept, (len(source), len(target))]:
        if (start, other) != (i, j):
            found.append(Edit(i, start, tuple(target[j:other])))
        i, j = start + 1, other + 1
    return found


def written(found: Sequence[Edit]) -> str:
    """Edits as the model writes them: "start end replacement", joined by a comma and a blank; "None" without any.

    A replacement with a comma, a double quote or a backslash, and the word None itself, stands as a JSON string.
    """
    return ", ".join(f"{edit.start} {edit.end} {_quoted(' '.join(edit.words))}" for edit in found) or NONE


def parsed(text: str) -> list[Edit]:
    """The edits in a text; what is not an edit is ignored, so any text can be read."""
    return list(_read(text))


def applied(source: Sequence[str], found: Sequence[Edit]) -> list[str]:
    """The words of `source` after the edits; those out of range, or over an earlier one, are ignored."""
    accepted: list[Edit] = []
    for edit in found:
        if 0 <= edit.start <= edit.end <= len(source) and not any(_overlap(edit, other) for other in accepted):
            accepted.append(edit)
    words = list(source)
    for edit in sorted(accepted, key=lambda one: one[:2], reverse=True):
        words[edit.start : edit.end] = edit.words
    return words


def numbered(words: Sequence[str]) -> str:
    """The words with the number of each before it."""
    return " ".join(f"{index} {word}" for index, word in enumerate(words))


_EDIT = re.compile(r'(?:^|, )([0-9]{1,9}) ([0-9]{1,9}) ("(?:[^"\\]|\\.)*"|[^,"\\]+)(?=, |$)', re.DOTALL)


def _read(text: str) -> Iterator[Edit]:
    for start, end, said in _EDIT.findall(text.strip()):
        if said.startswith('"'):
            try:
                said = json.loads(said, strict=False)
            except ValueError:
                continue
        elif said == NONE:
            said = ""
        yield Edit(int(start), int(end), tuple(said.split()))


def _quoted(said: str) -> str:
    if not said:
        return NONE
    return json.dumps(said, ensure_ascii=False) if said == NONE or any(sign in said for sign in ',"\\') else said


def _overlap(one: Edit, other: Edit) -> bool:
    return one[:2] == other[:2] or (one.start < other.end and other.start < one.end)


def _matching_runs(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of places (source, target) of the words that are kept."""
    blocks = SequenceMatcher(None, source, target, autojunk=False).get_matching_blocks()
    return [(block.a + step, block.b + step) for block in blocks for step in range(block.size)]


def _cheapest(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
    """The same by the cheapest alignment; of equally cheap ones that which keeps words early."""
    n, m = len(source), len(target)
    cost = [[0.0] * (m + 1) for _ in range(n + 1)]
    back = [[(0, 0)] * (m + 1) for _ in range(n + 1)]
    for i in range(n + 1):
        for j in range(m + 1):
            ways = []
            if i and j:
                ways.append((cost[i - 1][j - 1] + _difference(source[i - 1], target[j - 1]), (1, 1)))
            if i > 1 and j > 1 and source[i - 2 : i] == [*reversed(target[j - 2 : j])]:
                ways.append((cost[i - 2][j - 2] + 1, (2, 2)))
            if i:
                ways.append((cost[i - 1][j] + 1, (1, 0)))
            if j:
                ways.append((cost[i][j - 1] + 1, (0, 1)))
            if ways:
                cost[i][j], back[i][j] = min(ways, key=lambda way: way[0])
    kept, i, j = [], n, m
    while i or j:
        down, right = back[i][j]
        i, j = i - down, j - right
        if (down, right) == (1, 1) and source[i] == target[j]:
            kept.append((i, j))
    return kept[::-1]


@lru_cache(maxsize=1 << 16)
def _difference(one: str, other: str) -> float:
    if one == other:
        return 0.0
    alike = SequenceMatcher(None, one.lower(), other.lower(), autojunk=False).ratio()
    return 2.0 - 1.5 * alike
