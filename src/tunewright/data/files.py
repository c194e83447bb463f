"""The files behind a recipe's sources: their hashes, and how many rows to expect."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tunewright import catalog
from tunewright.data import hub
from tunewright.data.parts import Part
from tunewright.data.reading import function_file
from tunewright.data.sources import located
from tunewright.errors import BadInput
from tunewright.recipe import Recipe


@dataclass(frozen=True)
class Files:
    """`digests`: SHA-256 of each file (or what identifies a hub data set); `rows`: an estimate, None when unknown."""

    digests: dict[str, str]
    rows: int | None


def hashed(recipe: Recipe, parts: Iterable[Part]) -> Files:
    """Hashes every file that the parts read, the user's functions, formats and augmentations included.

    Raises `BadInput` when one cannot be read.
    """
    made = (method for kind in ("format", "augment") for method in catalog.methods(kind))
    own = {Path(inspect.getfile(method)) for method in made if not _is_ours(method)}
    digests: dict[str, str] = {str(path): _hash(path)[0] for path in sorted(own)}
    rows: int | None = 0
    for part in parts:
        if part.split:
            continue
        paths = located(part.source, part.origin, part.place)
        if paths is None:
            digests[part.source.path] = hub.fingerprint(part.source, part.origin, part.place)
        for path in paths or ():
            digest, lines = _hash(path)
            digests[str(path)] = digest
            countable = path.suffix.lower() in (".jsonl", ".ndjson", ".tsv", ".csv")
            rows = rows + lines if rows is not None and countable else None
        if part.source.function is not None:
            script, _ = function_file(part.source, part.origin, part.place)
            digests[str(script)] = _hash(script)[0]
    return Files(digests, rows)


def _is_ours(method: type[catalog.Method]) -> bool:
    """Whether a method belongs to the package, whose code is hashed as a whole."""
    return method.__module__.startswith(catalog.ROOMS[method.kind])


def _hash(path: Path) -> tuple[str, int]:
    """SHA-256 and number of line ends of a file."""
    digest, lines = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
                lines += chunk.count(b"\n")
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from None
    return digest.hexdigest(), lines
