"""The lines of files, and what is said of a faulty one."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from tunewright.errors import BadInput

LINE_LIMIT = 64 * 2**20
"""Bytes of the longest line that is read; a longer one is refused before it fills the memory."""

Report = Callable[[BadInput], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in its file: named values, and where they stand.

    `line` is the line (first is 1) in files of lines; in a JSON array, Parquet file or data set it is the row number,
    and `note` says on which line the row begins where that is known.
    """

    file: str
    line: int
    values: dict[str, Any]
    note: str = ""


class FaultyRow(BadInput):
    """A fault of one row that could be read as such; `row` shows it, shortened."""

    row = ""


def stop(fault: BadInput) -> NoReturn:
    """The default answer to a faulty row: it is raised."""
    raise fault


def opened(path: Path) -> BinaryIO:
    """The bytes of a file, unzipped when its name ends in `.gz`."""
    try:
        if path.suffix.lower() == ".gz":
            import gzip

            return io.BufferedReader(gzip.open(path, "rb"), 2**20)
        return path.open("rb")
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from None


def lines(path: Path, report: Report) -> Iterator[tuple[int, str]]:
    """Number and text (without the line end) of every line; faulty lines are reported and left out."""
    number = 0
    with opened(path) as stream:
        while True:
            number += 1
            try:
                line = stream.readline(LINE_LIMIT + 1)
            except (EOFError, OSError) as error:
                stop(BadInput(f"not a complete gzip file: {error}", file=path, line=number, hint="Copy it again."))
            if not line:
                return
            if len(line) > LINE_LIMIT:
                stop(BadInput(
                    f"the line is longer than {LINE_LIMIT // 2**20} MB", file=path, line=number,
                    expected="one row per line", hint="Are the line ends missing, or is this not a text file?",
                ))  # fmt: skip
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            text = _text(line, path, number, report)
            if text is not None:
                yield number, text.rstrip("\r\n")


def chunks(path: Path) -> Iterator[str]:
    """The text of a file in pieces of any length, for formats in which line ends mean nothing."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    with opened(path) as stream:
        while True:
            try:
                read = stream.read(2**18)
            except (EOFError, OSError) as error:
                stop(BadInput(f"not a complete gzip file: {error}", file=path, line=line, hint="Copy it again."))
            try:
                text = decoder.decode(read, final=not read)
            except UnicodeDecodeError as error:
                known = bytes(error.object)
                begins = known.rfind(b"\n", 0, error.start) + 1
                line += known.count(b"\n", 0, error.start)
                stop(_not_utf8(known[begins:], error.start - begins, error.reason, path, line))
            if "\0" in text:
                line += text.count("\n", 0, text.index("\0"))
                stop(_nul(path, line))
            line += text.count("\n")
            yield text
            if not read:
                return


def _text(line: bytes, path: Path, number: int, report: Report) -> str | None:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        report(_not_utf8(line, error.start, error.reason, path, number))
        return None
    if "\0" in text:
        report(_nul(path, number))
        return None
    return text


def _not_utf8(line: bytes, at: int, reason: str, path: Path, number: int) -> BadInput:
    likely = "UTF-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else "Latin-1 or Windows-1252"
    return BadInput(
        f"not UTF-8 text: {reason} at byte {at + 1} of the line", file=path, line=number, found=line[at : at + 8],
        expected="UTF-8", hint=f"The file is likely {likely}; convert it: iconv -t UTF-8.",
    )  # fmt: skip


def _nul(path: Path, number: int) -> BadInput:
    return BadInput(
        "holds a NUL byte", file=path, line=number, expected="text", hint="The file is binary, damaged, or UTF-16."
    )
