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
    from tunewright.errors import Fault

    try:
        app()
    except Fault as fault:
        print(f"tunewright: {fault}", file=sys.stderr)
        raise SystemExit(fault.status) from None
    except KeyboardInterrupt:
        print("tunewright: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
