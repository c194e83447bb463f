"""Prepared data kept within bounds: what was not used for the longest time goes first, what is in use stays."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock, Timeout

from tunewright.errors import BadInput

VARIABLE = "TUNEWRIGHT_CACHE_GB"

DEFAULT_GB = 20.0
"""Gigabytes (2^30 bytes) that prepared data may take where the variable says nothing."""

_held: dict[Path, IO[bytes]] = {}


class Entry(NamedTuple):
    """One prepared data set: its folder, its size in bytes, and when it was last asked for (seconds since 1970)."""

    folder: Path
    size: int
    used: float


def limit() -> int:
    """Bytes that prepared data may take: `$TUNEWRIGHT_CACHE_GB` gigabytes, else 20. Raises `BadInput` for no number."""
    given = os.environ.get(VARIABLE) or str(DEFAULT_GB)
    try:
        found = int(float(given) * 2**30)
    except (ValueError, OverflowError):
        raise BadInput("not a size", field=f"${VARIABLE}", found=given, expected="gigabytes, as 20") from None
    return found


def entries(root: Path) -> list[Entry]:
    """The prepared data sets below `root`, the one longest unused first."""
    found = [
        Entry(folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), folder.stat().st_mtime)
        for folder in (root.iterdir() if root.is_dir() else ())
        if folder.is_dir() and not folder.name.startswith(".")
    ]
    return sorted(found, key=lambda entry: entry.used)


def hold(folder: Path) -> None:
    """Marks a data set as used now and, until this process ends, as in use. Its name must be locked meanwhile."""
    os.utime(folder)
    if sys.platform != "win32" and folder not in _held:  # elsewhere an open file cannot be removed anyway
        import fcntl

        mark = (folder / "in-use").open("ab")
        fcntl.flock(mark, fcntl.LOCK_SH)
        _held[folder] = mark


def prune(root: Path) -> None:
    """Removes data sets below `root` until the others are within the limit, and what killed processes left there.

    What another process makes, waits for or uses stays, even beyond the limit.
    """
    for left in root.glob(".*-*"):
        _remove(left, root, left.name[1:].rpartition("-")[0])
    known = entries(root)
    over = sum(entry.size for entry in known) - limit()
    for entry in known:
        if over <= 0:
            return
        if _remove(entry.folder, root, entry.folder.name):
            over -= entry.size


def _remove(folder: Path, root: Path, name: str) -> bool:
    try:
        with FileLock(str(root / f"{name}.lock"), timeout=0):
            if _in_use(folder):
                return False
            shutil.rmtree(folder)
    except (Timeout, OSError):
        return False
    return True


def _in_use(folder: Path) -> bool:
    mark = folder / "in-use"
    if sys.platform == "win32" or not mark.exists():
        return False
    import fcntl

    with mark.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
