"""What the processes of a test do; light, since each imports it anew."""

from __future__ import annotations

import time
from pathlib import Path

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
