"""Records of a source: rows, renamed and converted as the recipe says, each held to the format of the first."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.data import generated, messages, recognition
from tunewright.data.formats.base import Format
from tunewright.data.lines import FaultyRow, Report, Row, stop
from tunewright.data.records import Record
from tunewright.data.sources import rows
from tunewright.document import Keys, Place, find_path
from tunewright.errors import BadInput, nearest, shown
from tunewright.recipe import SourceSpec


@dataclass
class Reader:
    """Turns the rows of one source into records.

    `number` is what `Record.source` will say. After the first row `format` holds the recognised format. `left_out`
    counts rows that the user's function answered with None, or of which the format makes nothing.
    """

    source: SourceSpec
    origin: Keys
    place: Place = ("data",)
    number: int = 0
    format: Format | None = None
    first: str = ""
    left_out: int = 0
    _kinds: dict[tuple[str, ...], Format | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.source.format, Format):
            self.format = self.source.format
        self._convert = user_function(self.source, self.origin, self.place) if self.source.function else None
        fields = recognition.known_fields() if self.source.fields else frozenset()
        for name in self.source.fields:
            if name not in fields:
                known = sorted(fields)
                raise BadInput(
                    "no format has such a field",
                    file=self.origin.file, line=self.origin.lines.get((*self.place, "fields")),
                    field=f"fields.{name}", hint=nearest(name, known) or f"Known: {', '.join(known)}.",
                )  # fmt: skip

    def records(self, report: Report = stop) -> Iterator[Record]:
        """The records, streamed; each fault goes to `report`, and its row is left out when that returns."""
        for row in rows(self.source, self.origin, self.place, report):
            try:
                made = self.record(row)
            except BadInput as fault:
                report(_placed(fault, row))
                continue
            if made is not None:
                yield made

    def record(self, row: Row) -> Record | None:
        """The record of one row; None when the user's function or the format leaves it out."""
        values = self._renamed(row.values)
        if self._convert is not None:
            converted = self._converted(values)
            if converted is None:
                self.left_out += 1
                return None
            values = converted
        form = self._form(values, row)
        weight = messages.weight(values, "")
        read = form.read(values, self.source)
        if read is None:
            self.left_out += 1
            return None
        used = form.fields() | recognition.WEIGHTS
        return recognition.record(read, values, used, weight, self.number, row.file, row.line)

    def _renamed(self, values: dict[str, Any]) -> dict[str, Any]:
        if not self.source.fields:
            return values
        renamed = dict(values)
        for ours, theirs in self.source.fields.items():
            if theirs not in values:
                raise BadInput(
                    "the row has no such field", field=theirs, found=f"a row with {', '.join(values)}",
                    expected=f"the field that 'fields' names for '{ours}'", hint=nearest(theirs, values),
                )  # fmt: skip
            if theirs not in self.source.fields:
                renamed.pop(theirs, None)
        return renamed | {ours: values[theirs] for ours, theirs in self.source.fields.items()}

    def _converted(self, values: dict[str, Any]) -> dict[str, Any] | None:
        assert self._convert is not None
        try:
            made = self._convert(values)
        except Exception as error:
            raise BadInput(
                f"the function failed on this row: {type(error).__name__}: {error}", field="function"
            ) from error
        if made is not None and not isinstance(made, Mapping):
            raise BadInput(
                "the function gave no row", field="function", found=made, expected="a dict, or None to leave it out"
            )
        return None if made is None else dict(made)

    def _form(self, values: Mapping[str, Any], row: Row) -> Format:
        present = tuple(name for name, value in values.items() if value is not None)
        if present not in self._kinds:
            self._kinds[present] = recognition.recognised(present)
        seen = self._kinds[present]
        if seen is not None and self.source.format == "auto" and generated.is_generated(self.source):
            # The world's stream holds plain texts beside conversations, on purpose.
            self.format = seen
        if self.format is None:
            if seen is None:
                raise BadInput(
                    "the format is not recognised", found=f"a row with the fields {', '.join(present) or '(none)'}",
                    expected="; ".join(item.title for item in recognition.recognisable()),
                    hint=recognition.suggestion(present),
                )  # fmt: skip
            self.format, self.first = seen, f"{row.file}:{row.line}"
        if self.source.format == "auto" and seen is not None and type(seen) is not type(self.format):
            raise BadInput(
                "the file mixes formats", found=f"a row of {seen.title}",
                expected=f"{self.format.title}, as in the first row ({self.first})",
                hint="Split the file in two sources, or set 'format'.",
            )  # fmt: skip
        if not self.format.fits(present):
            raise self._lacking(self.format, present, seen)
        return self.format

    def _lacking(self, form: Format, present: tuple[str, ...], seen: Format | None) -> BadInput:
        need = max(form.required, key=lambda names: len(set(names) & set(present)))
        lacking = next(name for name in need if name not in present)
        looks = f"The row looks like {seen.title}: set 'format: {seen.name}'." if seen else None
        return BadInput(
            "missing", field=lacking, found=f"a row with {', '.join(present) or 'no fields'}",
            expected=f"the fields of {form.title}", hint=looks or nearest(lacking, present),
        )  # fmt: skip


def function_file(source: SourceSpec, origin: Keys, place: Place) -> tuple[Path, str]:
    """File and name of the function that `source.function` (`FILE.py:NAME`) names."""
    file, _, name = (source.function or "").rpartition(":")
    at = (*place, "function")
    if not file or not name.isidentifier():
        raise BadInput(
            "not a function", file=origin.file, line=origin.lines.get(at), field="function", found=source.function,
            expected="FILE.py:NAME",
        )  # fmt: skip
    return find_path(file, origin, at), name


def user_function(source: SourceSpec, origin: Keys, place: Place) -> Callable[[dict[str, Any]], Any]:
    """The function that `source.function` names. Raises `BadInput` when there is none."""
    path, name = function_file(source, origin, place)
    spec = importlib.util.spec_from_file_location(f"tunewright_rows_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput("cannot be read as a Python file", file=path, field="function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"importing it failed: {type(error).__name__}: {error}", file=path, field="function") from error
    found = getattr(module, name, None)
    if not callable(found):
        known = [item for item in vars(module) if callable(getattr(module, item))]
        raise BadInput(
            "the file has no such function", file=path, field="function", found=name, hint=nearest(name, known)
        )
    made: Callable[[dict[str, Any]], Any] = found
    return made


def _placed(fault: BadInput, row: Row) -> FaultyRow:
    """The same fault with the row's file and line."""
    placed = FaultyRow(
        fault.message, file=row.file, line=row.line, field=fault.field, found=fault.found, expected=fault.expected,
        hint=" ".join(part for part in (fault.hint, row.note) if part) or None,
    )  # fmt: skip
    placed.row = shown(row.values, 240)
    return placed
