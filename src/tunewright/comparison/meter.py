"""What a trial takes of the machine, in a process that lives through many."""

from __future__ import annotations

import ctypes
import gc
import time

import psutil
import torch

from tunewright.assembly import Assembly
from tunewright.costs import flops_of, watts
from tunewright.train.loop import Loop
from tunewright.train.memory import forget, high_water


class Meter:
    """Counts time and memory from its making on.

    Memory is what the trial adds to interpreter, libraries and kept data: its own copy of the model, adapter,
    optimizer, activations and evaluation. It is the accelerator's where there is one.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        # What earlier trials left behind would stand in the way of counting.
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        self._is_counted = forget()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._resident = psutil.Process().memory_info().rss

    def read(self, assembly: Assembly | None = None, loop: Loop | None = None) -> dict[str, float | None]:
        """The costs so far; those of training where a loop is given."""
        # A count that began with the process would hold the peaks of earlier trials.
        resident = high_water() if self._is_counted else psutil.Process().memory_info().rss
        on_device = float(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
        cost: dict[str, float | None] = {
            "wall_seconds": time.perf_counter() - self._started,
            "peak_memory_bytes": on_device if on_device is not None else float(max(0, resident - self._resident)),
            "resident_bytes": float(resident),
        }
        if assembly is not None and loop is not None:
            power = watts()
            cost |= {
                "tokens": float(loop.state.tokens),
                "steps": float(loop.state.step),
                "seconds": loop.state.seconds,
                "flops": flops_of(loop, assembly),
                "trained_parameters": float(sum(p.numel() for p in assembly.attached.trained().values())),
                "joules": None if power is None else power * loop.state.seconds,
            }
        return cost
