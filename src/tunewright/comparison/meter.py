"""What a trial takes of the machine, in a process that lives through many."""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path

import psutil
import torch

from tunewright.assembly import Assembly
from tunewright.costs import flops_of
from tunewright.train.loop import Loop

WATTS = 10.0
"""Power of a processor core at work, for the energy estimate."""


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
        clear = Path("/proc/self/clear_refs")
        if clear.exists():
            clear.write_text("5")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._resident = psutil.Process().memory_info().rss

    def read(self, assembly: Assembly | None = None, loop: Loop | None = None) -> dict[str, float | None]:
        """The costs so far; those of training where a loop is given."""
        resident = _high_water()
        on_device = float(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
        cost: dict[str, float | None] = {
            "wall_seconds": time.perf_counter() - self._started,
            "peak_memory_bytes": on_device if on_device is not None else float(max(0, resident - self._resident)),
            "resident_bytes": float(resident),
        }
        if assembly is not None and loop is not None:
            watts = _watts()
            cost |= {
                "tokens": float(loop.state.tokens),
                "steps": float(loop.state.step),
                "seconds": loop.state.seconds,
                "flops": flops_of(loop, assembly),
                "trained_parameters": float(sum(p.numel() for p in assembly.attached.trained().values())),
                "joules": None if watts is None else watts * loop.state.seconds,
            }
        return cost


def _watts() -> float | None:
    """Power in watts: the accelerator's own reading where it gives one, else so much per thread."""
    if not torch.cuda.is_available():
        return WATTS * torch.get_num_threads()
    try:
        return torch.cuda.power_draw() / 1000
    except Exception:  # Without NVML's Python package there is no reading.
        return None


def _high_water() -> int:
    """Peak resident bytes since they were last forgotten; where the system keeps no such count, those of now."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)
