"""Further numbers of the rows, for the methods that ask for them by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunewright.data.answers import OWN
from tunewright.data.lines import FaultyRow
from tunewright.data.records import Record
from tunewright.data.table import ALWAYS
from tunewright.errors import BadInput, nearest, shown

LARGEST = 2**53
"""Whole numbers up to this size are kept exactly."""


class Columns:
    """The wanted columns of training records: a number per record, or a list of numbers, one per token.

    `wanted` maps the name of a column to the methods that want it, in words. A column is of one kind in all rows: that
    of the first; those that every table has are not read from the rows. `whole` are the columns that held whole numbers alone so far.
    """

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self.wanted = {name: by for name, by in wanted.items() if name not in (*ALWAYS, *OWN)}
        self.whole = set(self.wanted)
        self._first: dict[str, tuple[type, str]] = {}

    def of(self, record: Record, tokens: int) -> tuple[dict[str, float], dict[str, list[float]]]:
        """The values per sequence and per token of a record that has `tokens` tokens before it is shortened.

        Raises `BadInput` naming the row, the column and who wants it: for a column that is missing, is no number and
        no list of `tokens` numbers, or is of the other kind than in the first row.
        """
        single: dict[str, float] = {}
        many: dict[str, list[float]] = {}
        for name in self.wanted:
            value = record.columns.get(name)
            kind = list if isinstance(value, list | tuple) else float
            first, where = self._first.setdefault(name, (kind, record.where))
            if value is not None and kind is not first:
                raise self._fault(record, name, f"{_KINDS[first]}, as in the first row ({where})")
            if isinstance(value, list | tuple):
                if len(value) != tokens:
                    raise self._fault(record, name, f"a list of {tokens:,} numbers, one per token of the row")
                many[name] = [self._number(record, name, item) for item in value]
            else:
                single[name] = self._number(record, name, value)
        return single, many

    def _number(self, record: Record, name: str, value: Any) -> float:
        if isinstance(value, str):  # CSV and TSV know text only
            value = _read(value)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not usable or (isinstance(value, int) and abs(value) > LARGEST):
            raise self._fault(record, name, "a finite number, or a list of one per token")
        if isinstance(value, float):
            self.whole.discard(name)
        return float(value)

    def _fault(self, record: Record, name: str, expected: str) -> BadInput:
        value = record.columns.get(name)
        there = ", ".join(record.columns) or "no further columns"
        fault = FaultyRow(
            f"the column that {self.wanted[name]} wants is {'missing' if value is None else 'not usable'}",
            file=record.file, line=record.line, field=name, found=f"a row with {there}" if value is None else value,
            expected=expected,
            hint=(nearest(name, record.columns) or "A function under 'function: FILE.py:NAME' can add it.")
            if value is None else None,
        )  # fmt: skip
        fault.row = shown(dict(record.columns), 240)
        return fault


_KINDS: dict[type, str] = {list: "a list of numbers", float: "a number"}


def _read(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
