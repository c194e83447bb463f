"""What runs on this machine took against what was predicted: a line per finished run, and intervals learnt from them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t

from tunewright.data import cache
from tunewright.errors import BadInput

NEEDED = 5
"""Runs without which no interval is told."""

RECENT = 200
"""The newest runs of a kind of machine, which count."""

SHARE = 0.8
"""Share of runs that end within an interval."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Outcome:
    """A finished run: what its rehearsal predicted, what it took, and on what kind of machine. All numbers are above 0."""

    machine: str
    precision: str
    version: str
    predicted_seconds: float
    actual_seconds: float
    predicted_bytes: int
    actual_bytes: int


def file() -> Path:
    """Where outcomes are kept: beside prepared data."""
    return cache.home() / "predictions.jsonl"


def remember(outcome: Outcome) -> None:
    """Appends an outcome. Raises `OSError` where the file cannot be written."""
    file().parent.mkdir(parents=True, exist_ok=True)
    # One unbuffered write in append mode: runs that end together do not mix their lines.
    with file().open("ab", buffering=0) as stream:
        stream.write(json.dumps(asdict(outcome)).encode() + b"\n")


def outcomes(machine: str) -> list[Outcome]:
    """The newest outcomes of a kind of machine, oldest first. Raises `BadInput` for a line that is none."""
    found = []
    for number, line in enumerate(file().read_text().splitlines() if file().exists() else (), 1):
        try:
            one = Outcome(**json.loads(line))
            if min(one.predicted_seconds, one.actual_seconds, one.predicted_bytes, one.actual_bytes) <= 0:
                raise ValueError
        except (ValueError, TypeError):
            raise BadInput(
                "not what a run took", file=file(), line=number, found=line[:60],
                hint="Delete the line, or the file: plans then have no interval until runs are recorded again.",
            ) from None  # fmt: skip
        if one.machine == machine:
            found.append(one)
    return found[-RECENT:]


def seconds_ratios(found: Sequence[Outcome]) -> list[float]:
    """actual / predicted of the time."""
    return [one.actual_seconds / one.predicted_seconds for one in found]


def memory_ratios(found: Sequence[Outcome]) -> list[float]:
    """actual / predicted of the peak memory."""
    return [one.actual_bytes / one.predicted_bytes for one in found]


def interval(ratios: Sequence[float]) -> Range | None:
    """From 10% to 90% of the ratio of a further run, or None for fewer than 5.

    With x = log(ratio) of mean m and standard deviation s over n runs, taken as normal: m -+ t * s * sqrt(1 + 1/n), t the
    90% quantile of Student's distribution with n - 1 degrees of freedom. So 8 of 10 further runs fall inside for any n,
    where quantiles of a few ratios would be too narrow.
    """
    n = len(ratios)
    if n < NEEDED:
        return None
    logs = np.log(ratios)
    half = float(t.ppf((1 + SHARE) / 2, n - 1)) * float(logs.std(ddof=1)) * math.sqrt(1 + 1 / n)
    return math.exp(logs.mean() - half), math.exp(logs.mean() + half)


def errors(machine: str) -> dict[str, object]:
    """How far predictions were off here: number of runs, and median, 10% and 90% quantile of actual / predicted."""
    found = outcomes(machine)
    told: dict[str, object] = {"file": str(file()), "machine": machine, "runs": len(found)}
    for name, ratios in (("time", seconds_ratios(found)), ("memory", memory_ratios(found))):
        if ratios:
            low, median, high = (round(float(value), 3) for value in np.quantile(ratios, (0.1, 0.5, 0.9)))
            told |= {f"{name}_ratio": median, f"{name}_ratio_10": low, f"{name}_ratio_90": high}
    return told
