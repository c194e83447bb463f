"""The command line: one thin function per verb."""

from __future__ import annotations

import sys

from tunewright.cli._app import app as app

# Importing the verbs registers them, in the order in which `--help` shows them.
# isort: off
from tunewright.cli import _running as _running
from tunewright.cli import _comparing as _comparing
from tunewright.cli import _looking as _looking
from tunewright.cli import _using as _using
from tunewright.cli import _telling as _telling
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Runs a command; a fault ends in one message on standard error and its exit status."""
    from tunewright.errors import Fault, out_of_memory

    try:
        app()
    except Fault as fault:
        print(f"tunewright: {fault}", file=sys.stderr)
        raise SystemExit(fault.status) from None
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        what = (str(error).splitlines() or ["none is left"])[0]
        hint = "Lower data.max_length, take a smaller model or end other work; a run goes on with --resume."
        print(f"tunewright: memory ran out: {what.rstrip('.')}. {hint}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("tunewright: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
