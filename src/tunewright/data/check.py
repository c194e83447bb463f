"""Every row of a recipe's data looked at before anything else is done: all faults, not only the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tunewright.data.columns import Columns
from tunewright.data.completing import asked
from tunewright.data.lines import FaultyRow
from tunewright.data.parts import Part, parts, tasks_parts
from tunewright.data.prepare import prepare
from tunewright.data.progress import progress
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.tabulating import BATCH
from tunewright.data.templates import Renderer, renderers
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

SHOWN = 20
"""Faults of one source that are told in full; the others are counted."""


@dataclass
class Checked:
    """What was found in one source: its format in words, its good rows, and its faults by kind."""

    name: str
    role: str
    path: str
    format: str = ""
    rows: int = 0
    faulty: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    shown: list[BadInput] = field(default_factory=list)

    def report(self, fault: BadInput) -> None:
        """Takes a fault into account."""
        self.faulty += 1
        self.kinds[f"field '{fault.field}': {fault.message}" if fault.field else fault.message] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(fault)

    def plain(self) -> dict[str, Any]:
        """The findings as JSON can hold them."""
        faults = [{"file": str(f.file), "line": f.line, "field": f.field, "message": str(f)} for f in self.shown]
        kept = {name: getattr(self, name) for name in ("name", "role", "path", "format", "rows", "faulty")}
        return {**kept, "faults": faults, "kinds": dict(self.kinds)}

    def lines(self) -> Iterator[str]:
        """The findings as lines of text."""
        told = (
            f"{self.rows:,} rows are fine, {self.faulty:,} faulty" if self.faulty else f"{self.rows:,} rows, all fine"
        )
        yield f"{self.name} ({self.role}): {self.format or 'format not recognised'}; {told}"
        for fault in self.shown:
            yield f"  {fault}"
            if isinstance(fault, FaultyRow):
                yield f"    the row: {fault.row}"
        if self.faulty > len(self.shown):
            yield f"  ... and {self.faulty - len(self.shown):,} more. By kind:"
            yield from (f"    {count:,} x {kind}" for kind, count in self.kinds.most_common(10))


@dataclass(frozen=True)
class CheckReport:
    """The findings per source, and why a run on the rows would not start. `str()` of it is what a user reads."""

    sources: list[Checked]
    refused: tuple[BadInput, ...] = ()

    @property
    def faulty(self) -> int:
        """Number of faults in all sources."""
        return sum(source.faulty for source in self.sources)

    @property
    def ok(self) -> bool:
        """Whether no fault was found and a run would start."""
        return self.faulty == 0 and not self.refused

    def plain(self) -> dict[str, Any]:
        """The findings as JSON can hold them."""
        return {
            "ok": self.ok,
            "faulty": self.faulty,
            "sources": [source.plain() for source in self.sources],
            "refused": [str(fault) for fault in self.refused],
        }

    def __str__(self) -> str:
        told = [line for source in self.sources for line in source.lines()]
        return "\n".join([*told, *(f"a run refuses this data: {fault}" for fault in self.refused)])


def check(
    recipe: Recipe,
    tokenizer: Any = None,
    context: int | None = None,
    cache_dir: Path | None = None,
    *,
    vocabulary: int | None = None,
) -> CheckReport:
    """Reads every row of every source and of every task's own rows, and collects what is wrong; no model is loaded.

    With a tokenizer every row is rendered too, so that conversations which the chat template refuses are found; and
    where every row is fine the data is prepared as a run would, for what only the whole of it can show (nothing held
    out, too many rows over the limit, ...), unless a model writes part of it. Raises `BadInput` only for a tokenizer that cannot be used.
    """
    listed = [*(part for part in parts(recipe) if not part.split), *tasks_parts(recipe)]
    made_by = renderers(tokenizer, [part.source for part in listed]) if tokenizer is not None else [None] * len(listed)
    found = []
    with progress("Checking rows", None) as told:
        for part, renderer in zip(listed, made_by, strict=True):
            checked = Checked(part.name, part.role, part.source.path)
            wanted = Columns(recipe.columns if part.role == "train" else {})
            for _ in _records(part, renderer, wanted, checked):
                told.advance()
            found.append(checked)
    if tokenizer is None or asked(recipe) or any(checked.faulty for checked in found):
        return CheckReport(found)
    try:
        return CheckReport(
            found, prepare(recipe, tokenizer, context, cache_dir, vocabulary=vocabulary, strict=False).refused
        )
    except BadInput as fault:
        return CheckReport(found, (fault,))


def _records(part: Part, renderer: Renderer | None, wanted: Columns, checked: Checked) -> Iterator[Record]:
    try:
        reader = Reader(part.source, part.origin, part.place, part.number)
        records = reader.records(checked.report)
        while batch := list(islice(records, BATCH)):
            checked.format = reader.format.title if reader.format else ""
            for record in batch:
                if renderer is None or _renders(renderer, record, wanted, checked):
                    checked.rows += 1
                    yield record
    except BadInput as fault:
        checked.report(fault)


def _renders(renderer: Renderer, record: Record, wanted: Columns, checked: Checked) -> bool:
    try:
        wanted.of(record, len(renderer.render(record).ids))
    except BadInput as fault:
        checked.report(fault)
        return False
    return True
