"""Peak memory, counted anew for every phase of a run where the system lets a process forget its peak."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

_forgotten = 0
"""The highest peak that `forget` has taken from the system's own count, which belongs to the process like this one."""


@dataclass(frozen=True)
class Phase:
    """Peak memory of a part of a run in bytes: resident, and of tensors on the accelerator (None without one).

    `so_far` says that the system keeps one count for the whole process: the resident peak is that of this phase and all
    before it.
    """

    name: str
    peak_bytes: int
    device_bytes: int | None
    so_far: bool


class Phases:
    """The phases of one run, each of which ends where the next one begins."""

    def __init__(self) -> None:
        self.done: list[Phase] = []
        self._name: str | None = None
        self._so_far = False

    def begin(self, name: str) -> None:
        """Ends the phase that runs, and counts anew for the next one. The first phase begins the run's count as well."""
        global _forgotten
        self.end()
        self._so_far = not forget()
        if not self.done:
            _forgotten = 0
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        self._name = name

    def end(self) -> None:
        """Ends the phase that runs, if one does."""
        if self._name is not None:
            device = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
            self.done.append(Phase(self._name, high_water(), device, self._so_far))
        self._name = None


def peak_memory() -> int:
    """Peak resident memory in bytes since the run began; outside a run, since the process did."""
    return max(_forgotten, high_water())


def high_water() -> int:
    """Peak resident memory in bytes since it was last forgotten."""
    now = int(psutil.Process().memory_info().rss)
    for line in STATUS.read_text().splitlines() if STATUS.exists() else ():
        # Unlike `ru_maxrss`, this holds nothing of the process that started this one.
        if line.startswith("VmHWM:"):
            return max(now, 1024 * int(line.split()[1]))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(now, peak * (1 if sys.platform == "darwin" else 1024))


def forget() -> bool:
    """Lets the system count the peak of resident memory anew from what is resident now; False where it does not."""
    global _forgotten
    peak = high_water()
    try:
        # Opened without creating: elsewhere there is no such file.
        with CLEAR.open("r+b", buffering=0) as file:
            file.write(b"5")
    except OSError:
        return False
    _forgotten = max(_forgotten, peak)
    return True
