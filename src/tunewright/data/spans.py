"""Labelled spans of a text: written as lines, read again, and what an answer may go on with."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from tunewright.errors import BadInput

NONE = "none"
"""The answer for a text without spans."""


class Span(NamedTuple):
    """Characters [start, end) of a text, and what they are."""

    start: int
    end: int
    label: str


def checked(text: str, spans: Sequence[Span]) -> list[Span]:
    """The spans in order. Raises `BadInput` for those that cannot be written as lines and found again."""
    found = sorted(spans)
    for span, before in zip(found, [Span(0, 0, ""), *found], strict=False):
        words = text[span.start : span.end]
        at = f"{words!r} at {span.start} to {span.end}"
        if not 0 <= span.start < span.end <= len(text):
            raise BadInput("outside of the text", field="spans", found=at, expected=f"places from 0 to {len(text)}")
        if span.start < before.end:
            raise BadInput("the spans overlap", field="spans", found=at, expected=f"a start from {before.end}")
        if words != words.strip() or "\n" in words or not (_edge(text, span.start) and _edge(text, span.end)):
            raise BadInput("not whole words", field="spans", found=at, expected="a span from word edge to word edge")
        if not span.label.strip() or span.label.isdigit() or " | " in span.label or "\n" in span.label:
            raise BadInput("not a label", field="spans", found=span.label, expected="a name such as LOC")
    return found


def written(text: str, spans: Sequence[Span]) -> str:
    """One line "words | LABEL" per span in order of appearance, or "none".

    A span is found as the first occurrence of its words, from word edge to word edge, behind the span before it; where
    it is the k-th, the line ends in " | k".
    """
    lines, position = [], 0
    for span in spans:
        words = text[span.start : span.end]
        place = list(_occurrences(text, words, position)).index(span.start) + 1
        lines.append(f"{words} | {span.label}" + (f" | {place}" if place > 1 else ""))
        position = span.end
    return "\n".join(lines) or NONE


def parsed(answer: str, text: str, labels: Collection[str]) -> tuple[list[Span], int]:
    """The spans that an answer names, and the number of its lines that name none."""
    found: list[Span] = []
    faults, position = 0, 0
    lines = answer.strip().split("\n") if answer.strip() not in ("", NONE) else []
    for line in lines:
        span = _named(line, text, position, tuple(sorted(labels)))
        if span is None:
            faults += 1
        else:
            found.append(span)
            position = span.end
    return found, faults


class Answers:
    """The answers that name spans of one text: what they may begin with, and which are whole."""

    def __init__(self, text: str, labels: Collection[str]) -> None:
        self.text, self.labels = text, tuple(sorted(labels))
        starts = [i for i in range(len(text)) if _edge(text, i) and not text[i].isspace()]
        ends = [i for i in range(1, len(text) + 1) if _edge(text, i) and not text[i - 1].isspace()]
        self._spans = [(s, e) for s in starts for e in ends if s < e and "\n" not in text[s:e]]
        self._sorted = lru_cache(maxsize=None)(self._words)

    def begins(self, answer: str) -> bool:
        """Whether some legal answer begins with this text."""
        *lines, last = answer.split("\n")
        position = self._after(lines)
        if position is None:
            return False
        return (not lines and NONE.startswith(last)) or self._begins_line(last, position)

    def whole(self, answer: str) -> bool:
        """Whether this is a legal answer."""
        return answer == NONE or self._after(answer.split("\n")) is not None

    def _after(self, lines: Sequence[str]) -> int | None:
        """The end of the last span that the lines name; None where one names none."""
        position = 0
        for line in lines:
            span = _named(line, self.text, position, self.labels)
            if span is None:
                return None
            position = span.end
        return position

    def _words(self, position: int) -> list[str]:
        return sorted({self.text[s:e] for s, e in self._spans if s >= position})

    def _begins_line(self, line: str, position: int) -> bool:
        words = self._sorted(position)
        place = bisect_left(words, line)
        if place < len(words) and words[place].startswith(line):
            return True
        for cut in (match.start() for match in re.finditer(r" (?=\||$)", line)):
            body, rest = line[:cut], line[cut:]
            place = bisect_left(words, body)
            if place < len(words) and words[place] == body and self._ends(body, rest, position):
                return True
        return False

    def _ends(self, words: str, rest: str, position: int) -> bool:
        """Whether a line of these words may go on with `rest`."""
        for label in self.labels:
            tail = f" | {label}"
            if tail.startswith(rest):
                return True
            if rest.startswith(tail):
                count = sum(1 for _ in _occurrences(self.text, words, position))
                if any(f"{tail} | {k}".startswith(rest) for k in range(2, count + 1)):
                    return True
        return False


def _named(line: str, text: str, position: int, labels: tuple[str, ...]) -> Span | None:
    """The span that a line names, at or behind `position`."""
    match = _line(labels).fullmatch(line)
    if match is None or not match[1]:
        return None
    wanted = int(match[3]) if match[3] else 1
    for place, start in enumerate(_occurrences(text, match[1], position), 1):
        if place == wanted:
            return Span(start, start + len(match[1]), match[2])
    return None


@lru_cache(maxsize=64)
def _line(labels: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(.*) \| ({'|'.join(map(re.escape, labels)) or '(?!)'})(?: \| ([1-9][0-9]{{0,5}}))?")


def _occurrences(text: str, words: str, position: int) -> Iterator[int]:
    """Where the words stand from word edge to word edge, at or behind `position`."""
    start = text.find(words, position)
    while start >= 0:
        if _edge(text, start) and _edge(text, start + len(words)):
            yield start
        start = text.find(words, start + 1)


def _edge(text: str, place: int) -> bool:
    """Whether no word goes on over this place."""
    return place in (0, len(text)) or not (_in_word(text[place - 1]) and _in_word(text[place]))


def _in_word(sign: str) -> bool:
    return sign.isalnum() or sign == "_"
