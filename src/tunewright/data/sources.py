"""Rows from files: JSONL, JSON, CSV, TSV, Parquet, text, gzip of these, and Hugging Face data sets, one at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tunewright.data import hub
from tunewright.data.json_decoding import Decoder
from tunewright.data.json_stream import objects
from tunewright.data.lines import LINE_LIMIT, FaultyRow, Report, Row, chunks, lines, opened, stop
from tunewright.document import Keys, Place, find_path
from tunewright.errors import BadInput, nearest, shown
from tunewright.recipe import SourceSpec

SEPARATOR = "<|endoftext|>"
TEXT = (".txt", ".text", ".md")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", *TEXT)


def located(source: SourceSpec, origin: Keys, place: Place = ("data",)) -> list[Path] | None:
    """The files of a source in order; None when its path names a data set of the hub.

    A directory stands for its text files, at any depth, by name. Raises `BadInput` for a path that does not exist,
    a suffix that is not known, and a directory without text files.
    """
    if hub.is_name(source, origin):
        return None
    path = find_path(source.path, origin, place)
    if not path.is_dir():
        _suffix(path)
        return [path]
    if hub.is_saved(path):
        return sorted(item for item in path.rglob("*") if item.is_file())
    files = sorted(item for item in path.rglob("*") if _is_text(item) and item.is_file())
    if not files:
        raise BadInput(
            "the directory holds no text files", file=path, field=".".join(map(str, place)),
            expected=f"files that end in {', '.join(TEXT)}, or a data set saved by `datasets`",
            hint="For other files name each as a source of its own.",
        )  # fmt: skip
    return [item for item in files if not any(part.startswith(".") for part in item.relative_to(path).parts)]


def rows(source: SourceSpec, origin: Keys, place: Place = ("data",), report: Report = stop) -> Iterator[Row]:
    """The rows of a source, streamed, at most `source.limit` of them.

    `report` receives each fault; when it returns, reading goes on behind the faulty row where that is possible.
    Text files: a file with `<|endoftext|>` is split there; otherwise one record per paragraph where blank lines part
    paragraphs, else one per line. TSV is read without quoting, CSV with it.
    """
    paths = located(source, origin, place)
    if paths is None:
        found = hub.named(source, origin, place)
    elif len(paths) > 1 and hub.is_saved(find_path(source.path, origin, place)):
        found = hub.saved(find_path(source.path, origin, place), source)
    else:
        found = None
    stream = _of_data_set(source.path, found) if found is not None else _of_files(paths or [], report)
    yield from islice(stream, source.limit)


def _of_data_set(name: str, found: Iterator[dict[str, Any]]) -> Iterator[Row]:
    for number, values in enumerate(found, 1):
        yield Row(name, number, values)


def _of_files(paths: list[Path], report: Report) -> Iterator[Row]:
    for path in paths:
        some = False
        for row in _readers[_suffix(path)](path, report):
            some = True
            yield row
        if not some:
            report(BadInput("holds no rows", file=path, expected="at least one row", hint="Is the file complete?"))


def _suffix(path: Path) -> str:
    names = [suffix.lower() for suffix in path.suffixes]
    last = names[-2] if len(names) > 1 and names[-1] == ".gz" else names[-1] if names else ""
    if last in SUFFIXES:
        return last
    raise BadInput(
        "the kind of file is not known", file=path, field="path", found=last or path.name,
        expected=f"a name that ends in {', '.join(SUFFIXES)} (also with .gz)",
        hint=nearest(last, SUFFIXES) if last else None,
    )  # fmt: skip


def _is_text(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(TEXT)


def _jsonl(path: Path, report: Report) -> Iterator[Row]:
    decoder = Decoder()
    for number, text in lines(path, report):
        if not text.strip():
            continue
        try:
            values = decoder.whole(text)
        except (json.JSONDecodeError, RecursionError) as error:
            column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            message = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            whole = number == 1 and text.strip() in ("[", "{")
            report(BadInput(
                f"not valid JSON{column}: {message}", file=path, line=number, found=text,
                expected="one JSON object per line",
                hint="The file looks like one JSON document: name it .json." if whole else None,
            ))  # fmt: skip
            if whole:
                return
            continue
        if decoder.repeated is not None:
            report(_twice(path, number, decoder.repeated, values))
        elif isinstance(values, dict):
            yield Row(str(path), number, values)
        else:
            whole = number == 1 and isinstance(values, list)
            report(BadInput(
                "not a row", file=path, line=number, found=values, expected="a JSON object, as {\"text\": \"...\"}",
                hint="The file looks like a JSON array: name it .json." if whole else None,
            ))  # fmt: skip


def _json(path: Path, report: Report) -> Iterator[Row]:
    with opened(path) as stream:
        head = stream.read(2**16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"{") and _first_line_is_whole(head):
        yield from _jsonl(path, report)
        return
    for number, (line, values, repeated) in enumerate(objects(path, chunks(path)), 1):
        note = f"Row {number} begins on line {line}."
        if repeated is not None:
            report(_twice(path, number, repeated, values, note))
        elif isinstance(values, dict):
            yield Row(str(path), number, values, note)
        else:
            report(BadInput("not a row", file=path, line=number, found=values, expected="a JSON object", hint=note))


def _twice(path: Path, line: int, key: str, values: Any, note: str | None = None) -> FaultyRow:
    fault = FaultyRow(
        "the key stands twice in one object", file=path, line=line, field=key, expected="each key once",
        hint=" ".join(part for part in ("Only one of the two values could be read.", note) if part),
    )  # fmt: skip
    fault.row = shown(values, 240)
    return fault


def _first_line_is_whole(head: bytes) -> bool:
    line, _, rest = head.partition(b"\n")
    try:
        json.loads(line)
    except ValueError:
        return False
    return bool(rest.strip())


def _csv(path: Path, report: Report) -> Iterator[Row]:
    csv.field_size_limit(LINE_LIMIT)
    reader = csv.reader((text + "\n" for _, text in lines(path, stop)), strict=True)
    names: list[str] | None = None
    begins = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            stop(BadInput(
                f"not valid CSV: {error}", file=path, line=begins, expected="fields with balanced double quotes",
                hint="A quote opened in this row is likely never closed; inside quotes, write a quote twice.",
            ))  # fmt: skip
        if cells is None:
            return
        line, begins = begins, reader.line_num + 1
        if names is None:
            names = _header(cells, path)
        elif cells:
            yield from _cells(names, cells, path, line, report, "A field with a comma or line end needs double quotes.")


def _tsv(path: Path, report: Report) -> Iterator[Row]:
    names: list[str] | None = None
    for line, text in lines(path, report):
        if names is None:
            names = _header(text.split("\t"), path)
        elif text:
            yield from _cells(names, text.split("\t"), path, line, report, "A field must hold no tab or line end.")


def _header(cells: list[str], path: Path) -> list[str]:
    doubled = next((name for name in cells if cells.count(name) > 1), None)
    if doubled is not None:
        raise BadInput(
            "two columns have the same name", file=path, line=1, field=doubled, hint="Is there a header line?"
        )
    return cells


def _cells(names: list[str], cells: list[str], path: Path, line: int, report: Report, hint: str) -> Iterator[Row]:
    if len(cells) != len(names):
        report(BadInput(
            "the row does not fit the header", file=path, line=line, found=f"a row of {len(cells)} fields",
            expected=f"{len(names)} ({', '.join(names)})", hint=hint,
        ))  # fmt: skip
        return
    yield Row(str(path), line, dict(zip(names, cells, strict=True)))


def _parquet(path: Path, report: Report) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with opened(path) as stream:
            whole = io.BytesIO(stream.read()) if path.suffix.lower() == ".gz" else path
            for batch in pyarrow.parquet.ParquetFile(whole).iter_batches(1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(str(path), number, values)
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        stop(BadInput(f"not a readable Parquet file: {error}", file=path, line=number + 1 if number else None))


def _plain(path: Path, report: Report) -> Iterator[Row]:
    split = _splitting(path)
    begins, held = 0, list[str]()
    for number, text in lines(path, report):
        parts = text.split(SEPARATOR) if split == SEPARATOR else [text]
        for index, part in enumerate(parts):
            ends = index > 0 or split == "lines" or (split == "paragraphs" and not part.strip())
            if ends and any(item.strip() for item in held):
                yield Row(str(path), begins, {"text": "\n".join(held).strip("\n")})
            if ends:
                held = []
            if part.strip() or held:
                begins = begins if held else number
                held.append(part)
    if any(item.strip() for item in held):
        yield Row(str(path), begins, {"text": "\n".join(held).strip("\n")})


def _splitting(path: Path) -> str:
    blank = paragraphs = text_before = False
    for _, text in lines(path, lambda fault: None):
        if SEPARATOR in text:
            return SEPARATOR
        if text.strip():
            paragraphs |= blank and text_before
            text_before, blank = True, False
        else:
            blank = True
    return "paragraphs" if paragraphs else "lines"


_readers: dict[str, Callable[[Path, Report], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    **dict.fromkeys(TEXT, _plain),
}
