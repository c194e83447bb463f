"""The items of a JSON array, read without holding the whole document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.data.json_decoding import Decoder
from tunewright.data.lines import LINE_LIMIT
from tunewright.errors import BadInput

CHUNK = 2**18
"""Characters taken in before decoding is tried (again)."""

_blank = " \t\r\n"


class _Text:
    """The part of the document that is not consumed yet."""

    def __init__(self, path: Path, pieces: Iterable[str]) -> None:
        self.path, self.pieces = path, iter(pieces)
        self.held, self.at, self.line, self.more = "", 0, 1, True
        self.decoder = Decoder()

    def grow(self) -> None:
        """Drops what was consumed and takes in at least as much again as is left."""
        parts, size = [self.held[self.at :]], 0
        wanted = max(CHUNK, len(parts[0]))
        while size < wanted and self.more:
            piece = next(self.pieces, None)
            self.more = piece is not None
            parts.append(piece or "")
            size += len(parts[-1])
        self.held, self.at = "".join(parts), 0

    def move(self, to: int) -> None:
        self.line += self.held.count("\n", self.at, to)
        self.at = to

    def peek(self) -> str:
        """The next character that is not blank, or nothing at the end."""
        while True:
            end = self.at
            while end < len(self.held) and self.held[end] in _blank:
                end += 1
            self.move(end)
            if end < len(self.held) or not self.more:
                return self.held[end : end + 1]
            self.grow()

    def value(self) -> Any:
        while True:
            try:
                value, end = self.decoder.first(self.held, self.at)
            except json.JSONDecodeError as error:
                if self.more and self._may_go_on(error):
                    self.grow()
                    continue
                raise self.fault(f"not valid JSON: {error.msg}", error.pos) from None
            except RecursionError:
                raise self.fault("not usable JSON: nested too deeply", self.at) from None
            if end == len(self.held) and self.more:  # a number may go on
                self.grow()
                continue
            self.move(end)
            return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the value may only be cut off: an open string, or a fault where the text held ends."""
        if len(self.held) - self.at > LINE_LIMIT:
            raise self.fault(f"a row is longer than {LINE_LIMIT // 2**20} MB", self.at)
        return error.msg.startswith("Unterminated string") or error.pos > len(self.held) - 16

    def fault(self, message: str, at: int) -> BadInput:
        line = self.line + self.held.count("\n", self.at, at)
        found = self.held[at : at + 60].strip()
        return BadInput(
            message, file=self.path, line=line, found=found or "a document that ends here",
            expected="an array of objects", hint="A comma, quote or bracket is likely missing at or before this place.",
        )  # fmt: skip


class Item(NamedTuple):
    """One item of an array: the line it begins on, its value, and a key that it names twice, if any."""

    line: int
    value: Any
    repeated: str | None


def objects(path: Path, pieces: Iterable[str]) -> Iterator[Item]:
    """The items of the array whose text comes in `pieces`.

    A document that is an object holding exactly one list of objects stands for that list. Raises `BadInput` with
    file and line for anything else.
    """
    text = _Text(path, pieces)
    first = text.peek()
    if first == "{":
        yield from _only_list(text)
        return
    if not first:
        return
    if first != "[":
        raise text.fault("not an array of rows", text.at)
    text.move(text.at + 1)
    if text.peek() == "]":
        return
    while True:
        text.peek()
        line, value = text.line, text.value()
        yield Item(line, value, text.decoder.repeated)
        mark = text.peek()
        if mark == "]":
            break
        if mark != ",":
            raise text.fault("not valid JSON: expected ',' or ']' behind a row", text.at)
        text.move(text.at + 1)
    text.move(text.at + 1)
    if text.peek():
        raise text.fault("text behind the end of the array", text.at)


def _only_list(text: _Text) -> Iterator[Item]:
    line, document = text.line, text.value()
    if text.decoder.repeated is not None:
        # The rows are decoded together, so nothing tells in which of them the key stands.
        raise BadInput(
            "the key stands twice in one object", file=text.path, line=line, field=text.decoder.repeated,
            expected="each key once",
        )  # fmt: skip
    lists = [
        value for value in document.values() if isinstance(value, list) and all(isinstance(i, dict) for i in value)
    ]
    if len(lists) != 1:
        raise BadInput(
            "the document is one object, not rows", file=text.path, line=line,
            found=f"an object with the keys {', '.join(list(document)[:8])}", expected="an array of objects",
        )  # fmt: skip
    yield from (Item(line, item, None) for item in lists[0])
