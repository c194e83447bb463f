"""Tunewright tunes a pretrained model on your data and proves, by measurement, what got better and what got worse."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright import adapters as adapters
    from tunewright import objectives as objectives
    from tunewright.api import evaluate as evaluate
    from tunewright.api import load as load
    from tunewright.api import tune as tune
    from tunewright.comparison import compare as compare

# Threads that wait for each other spin for some tens of microseconds, the gap between two operations, and then sleep:
# sleeping at once halves the speed of small operations, spinning for long starves other work on the machine. Read when
# torch is first imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

__version__ = "0.1.0"

_FROM_API = ("tune", "load", "evaluate")
_FROM_COMPARISON = ("compare", "Arm", "Budget", "Tuning", "Target")
_ROOMS = ("adapters", "objectives", "optimize", "nanoworld")


def __getattr__(name: str) -> Any:
    # Torch is imported when a name is first used, so that `tunewright --help` answers at once.
    if name in _FROM_API:
        return getattr(import_module("tunewright.api"), name)
    if name in _FROM_COMPARISON:
        return getattr(import_module("tunewright.comparison"), name)
    if name in _ROOMS:
        return import_module(f"tunewright.{name}")
    raise AttributeError(f"module 'tunewright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", *_FROM_API, *_FROM_COMPARISON, *_ROOMS])
