"""Where a step does not end: every process says its rank, the step, and the Python stacks of all its threads."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tunewright.hooks import Hook
from tunewright.train.loop import Loop, Step

STDERR = 2
"""Written to directly: what stands for `sys.stderr` may be no file, and its buffer may be what is waited for."""

AFTER_LINE = 0.2
"""Seconds by which the stacks, which need no interpreter, follow the line, which does."""

TURN, TURNS = 0.5, 8
"""Seconds between the processes of a machine, and how many take turns, so that their stacks do not mix."""


@contextmanager
def watched(loop: Loop, seconds: float) -> Iterator[None]:
    """Watches the steps of `loop.run()` where `seconds` is not 0, until it ends in whatever way."""
    if not seconds:
        yield
        return
    hook = Watchdog(seconds)
    # Last among the hooks, so that what the others do after a step belongs to it.
    loop.hooks.append(hook)
    try:
        yield
    finally:
        hook.cancel()
        loop.hooks.remove(hook)


class Watchdog(Hook):
    """Writes rank, step and all threads' stacks to standard error every `seconds` in which no step was finished.

    The line comes from a thread; the stacks come from `faulthandler` and are written even where the interpreter is held
    by what hangs. There is one such timer per process.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._done = Event()

    def on_start(self, loop: Loop) -> None:
        self._arm(loop)

    def after_step(self, loop: Loop, step: Step) -> None:
        self._arm(loop)

    def cancel(self) -> None:
        """Ends the watch."""
        self._done.set()
        faulthandler.cancel_dump_traceback_later()

    def _arm(self, loop: Loop) -> None:
        self.cancel()
        self._done = Event()
        world, step = loop.world, loop.state.step + 1
        line = f"tunewright: rank {world.rank} of {world.size}: step {step} has not ended; the stacks of its threads:\n"
        patience = self.seconds + TURN * (world.rank % TURNS)
        Thread(target=_say, args=(line, patience, self._done), daemon=True).start()
        faulthandler.dump_traceback_later(patience + AFTER_LINE, repeat=True, file=STDERR)


def _say(line: str, patience: float, done: Event) -> None:
    """Writes the line before each time that the stacks are written."""
    waiting = patience
    while not done.wait(waiting):
        os.write(STDERR, line.encode())
        waiting = patience + AFTER_LINE
