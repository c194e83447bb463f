"""Peaks of phases: each its own where the system forgets, that so far where it does not, and the run's is the highest."""

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tunewright.train import memory
from tunewright.train.memory import Phases, high_water, peak_memory

MB = 1_000_000


def held(megabytes):
    """Takes so much from the system and gives it back: what a process keeps of freed memory would not be counted."""
    if megabytes:
        with mmap.mmap(-1, megabytes * MB) as taken:
            for _ in range(megabytes):
                taken.write(bytes(MB))


@pytest.fixture
def forgets():
    if not memory.forget():
        pytest.skip("this system does not let a process forget its peak")


def test_every_phase_has_its_own_peak_and_the_run_the_highest(forgets):
    phases = Phases()
    for name, megabytes in (("small", 50), ("large", 400), ("none", 0)):
        phases.begin(name)
        held(megabytes)
    phases.end()
    small, large, none = phases.done
    assert [one.name for one in phases.done] == ["small", "large", "none"] and not any(
        one.so_far for one in phases.done
    )
    assert large.peak_bytes - small.peak_bytes == pytest.approx(350 * MB, abs=30 * MB)
    assert none.peak_bytes < small.peak_bytes
    assert peak_memory() == large.peak_bytes > high_water()


def test_a_later_run_of_the_process_has_a_peak_of_its_own(forgets):
    phases = Phases()
    phases.begin("large")
    held(400)
    phases.end()
    before = peak_memory()
    later = Phases()
    later.begin("small")
    later.end()
    assert peak_memory() < before - 300 * MB


def test_where_the_system_forgets_nothing_peaks_are_those_so_far(monkeypatch):
    monkeypatch.setattr(memory, "CLEAR", Path("/proc/self/there is no such file"))
    phases = Phases()
    for name, megabytes in (("large", 300), ("small", 0)):
        phases.begin(name)
        held(megabytes)
    phases.end()
    large, small = phases.done
    assert large.so_far and small.so_far and small.peak_bytes >= large.peak_bytes
    assert peak_memory() >= small.peak_bytes


def test_the_accelerators_peak_is_counted_per_phase(monkeypatch):
    peaks = iter([11, 7])
    resets = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append(1))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: next(peaks))
    phases = Phases()
    phases.begin("one")
    phases.begin("other")
    phases.end()
    assert [one.device_bytes for one in phases.done] == [11, 7] and len(resets) == 2


def test_the_peak_holds_nothing_of_the_process_that_started_this_one():
    """Unlike `ru_maxrss`, which a process inherits over fork and exec."""
    if not memory.STATUS.exists():
        pytest.skip("no /proc here")
    code = "from tunewright.train.memory import high_water; print(high_water())"
    big = np.ones(800 * MB // 8)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) < big.nbytes
