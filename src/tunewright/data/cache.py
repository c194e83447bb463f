"""Prepared data kept on disk: found again by the hash of everything it depends on, made once by one process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewright.data import pruning
from tunewright.data.records import Record, Turn
from tunewright.errors import BadInput

VARIABLE = "TUNEWRIGHT_CACHE"

# Code that shows or draws from prepared data leaves it as it is.
_WITHOUT_EFFECT = {"batches.py", "cautions.py", "check.py", "preview.py", "progress.py", "pruning.py"}


def home() -> Path:
    """Where prepared data is kept: `$TUNEWRIGHT_CACHE`, else `~/.cache/tunewright`."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "tunewright")


def root() -> Path:
    """The folder whose folders hold one prepared data set each."""
    return home() / "data"


def key(parts: Any) -> str:
    """The name under which data made from `parts` (plain values) and this version of the code is kept."""
    own = hashlib.sha256()
    here = Path(__file__).parent
    for file in sorted(file for folder in (here, here / "formats", here / "augment") for file in folder.glob("*.py")):
        if file.name not in _WITHOUT_EFFECT:
            own.update(file.read_bytes())
    told = json.dumps([own.hexdigest(), parts], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


@contextmanager
def kept(name: str, make: Callable[[Path], None], root: Path) -> Iterator[Path]:
    """The folder `name` below `root`, made by `make` when it is not there; other processes wait for it meanwhile.

    The folder appears whole or not at all, and stays while this process runs; what was not used for the longest time
    is removed when the whole grows beyond its limit. Raises `BadInput` when it cannot be written.
    """
    from filelock import FileLock

    folder = root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(str(root / f"{name}.lock")):
            is_new = not folder.is_dir()
            if is_new:
                _made_aside(folder, make)
            pruning.hold(folder)
        if is_new:
            pruning.prune(root)
    except OSError as error:
        raise _unwritable(error, root) from None
    yield folder


@contextmanager
def passing(make: Callable[[Path], None]) -> Iterator[Path]:
    """A folder made by `make` that is deleted again; what is memory-mapped from it stays readable."""
    root = Path(tempfile.mkdtemp(prefix="tunewright-"))
    try:
        make(root / "data")
        yield root / "data"
    except OSError as error:
        raise _unwritable(error, root) from None
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _made_aside(folder: Path, make: Callable[[Path], None]) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        make(aside / "data")
        os.replace(aside / "data", folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unwritable(error: OSError, root: Path) -> BadInput:
    return BadInput(
        f"prepared data cannot be kept: {error.strerror or error}", file=error.filename or root,
        hint=f"Set ${VARIABLE} to a folder with room, or 'data: {{cache: false}}'.",
    )  # fmt: skip


def packed(record: Record) -> str:
    """A record as one line of JSON."""
    plain = {name: getattr(record, name) for name in Record.__slots__}
    plain["turns"] = [_plain(turn) for turn in record.turns]
    plain["rejected"] = None if record.rejected is None else [_plain(turn) for turn in record.rejected]
    plain["scored"] = [([_plain(turn) for turn in turns], reward) for turns, reward in record.scored]
    return json.dumps(plain, default=str)


def unpacked(line: str) -> Record:
    """The record of a line made by `packed`."""
    plain = json.loads(line)
    rejected = plain["rejected"]
    return Record(**plain | {
        "turns": tuple(_turn(turn) for turn in plain["turns"]),
        "rejected": None if rejected is None else tuple(_turn(turn) for turn in rejected),
        "tools": tuple(plain["tools"]),
        "scored": tuple((tuple(_turn(turn) for turn in turns), reward) for turns, reward in plain.get("scored", ())),
    })  # fmt: skip


def _plain(turn: Turn) -> list[Any]:
    return [getattr(turn, name) for name in Turn.__slots__]


def _turn(plain: list[Any]) -> Turn:
    values = dict(zip(Turn.__slots__, plain, strict=True))
    return Turn(**values | {"calls": tuple(values["calls"])})
