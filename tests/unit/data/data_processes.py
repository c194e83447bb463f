"""What the processes of a test do; light, since each imports it anew."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tunewright.data.cache import kept


def ask(root: Path) -> None:
    """Asks for a folder that takes a while to make."""
    with kept("name", _make_slowly, root) as folder:
        assert folder.is_dir()


def _make_slowly(folder: Path) -> None:
    folder.mkdir()
    with (folder.parent.parent / "made").open("a") as log:
        log.write("x")
    time.sleep(0.5)


def use_until(root: Path, name: str, ready: Any, end: Any) -> None:
    """Asks for a folder and goes on using it until told to end."""
    with kept(name, _make_a_megabyte, root):
        ready.set()
        end.wait(60)


def _make_a_megabyte(folder: Path) -> None:
    folder.mkdir()
    (folder / "ids.npy").write_bytes(bytes(2**20))
