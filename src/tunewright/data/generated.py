"""Rows of the embedded world as a source: `nano:SKILL/SPLIT`, `nano:corpus`, `nano:retention`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from tunewright import nanoworld
from tunewright.document import Document, Keys, Place
from tunewright.errors import BadInput, nearest
from tunewright.nanoworld.seeds import SPLITS
from tunewright.recipe import SourceSpec

PREFIX = "nano:"


def is_generated(source: SourceSpec) -> bool:
    """Whether a source's path names rows of the embedded world."""
    return source.path.startswith(PREFIX)


def rows(source: SourceSpec, origin: Keys, place: Place) -> Iterator[dict[str, Any]]:
    """The rows; a source needs a `limit`, since the world has no end.

    Raises `BadInput` for an unknown skill or split, and where the split holds fewer rows than asked for.
    """
    recipe = Document({}, origin.file, origin.lines)
    if source.limit is None:
        raise recipe.fault(place, "generated rows have no end", hint="Add 'limit: 2000' to this source.")
    name = source.path.removeprefix(PREFIX)
    if name == "corpus":
        return islice(nanoworld.corpus(), source.limit)
    if name == "retention":
        return nanoworld.retention(source.limit)
    skill, _, split = name.partition("/")
    if skill not in nanoworld.skills() or split not in SPLITS:
        known = ["corpus", "retention", *(f"{each}/{part}" for each in nanoworld.skills() for part in SPLITS)]
        raise recipe.fault(
            place, "no such rows in the embedded world", found=source.path,
            expected=f"{PREFIX}corpus, {PREFIX}retention or {PREFIX}SKILL/SPLIT with a split of {', '.join(SPLITS)}",
            hint=nearest(name, known) or f"Skills: {', '.join(nanoworld.skills())}.",
        )  # fmt: skip
    return _supplied(source, nanoworld.rows(skill, split, source.limit))


def fingerprint(source: SourceSpec) -> str:
    """What identifies the rows: their name and number, and the version of the world that makes them."""
    return f"{source.path} x {source.limit}, world {nanoworld.VERSION}"


def _supplied(source: SourceSpec, found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from found
    except ValueError as error:
        raise BadInput(f"the embedded world has no more rows: {error}", field="limit", found=source.limit) from None
