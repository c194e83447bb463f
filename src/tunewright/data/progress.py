"""A progress bar on the terminal for work that takes a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY = 512
"""Rows between two updates."""


class Progress(Protocol):
    """Told of each row that is done."""

    def advance(self) -> None: ...


class _Silent:
    def advance(self) -> None:
        """Nobody watches."""


class _Bar:
    def __init__(self, bar: object, task: object) -> None:
        self.bar, self.task, self.rows = bar, task, 0

    def advance(self) -> None:
        self.rows += 1
        if self.rows % EVERY == 0:
            self.bar.update(self.task, completed=self.rows)  # type: ignore[attr-defined]


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Progress]:
    """A bar with rows per second and time left on stderr, when that is a terminal; `total` rows where it is known."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(bars, bars.add_task(title, total=total))
