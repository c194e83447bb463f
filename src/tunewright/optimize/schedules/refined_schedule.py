"""A schedule refined from the gradient norms of an earlier run."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from tunewright.catalog import Paper, option
from tunewright.optimize.schedules.base import Schedule

Floats = NDArray[np.float64]


class RefinedSchedule(Schedule):
    """Derives the rate from the gradient norms of an earlier run, with the warm-up and final fall that they ask for.

    G_t, the norms of the earlier run before clipping, are smoothed by a running median of width 2 floor(tau T / 2) + 1
    (the start padded by its first value, the end by reflection) and interpolated to this run's length. With
    w_t = G_t^-exponent, factor_t = w_t (w_(t+1) + ... + w_(T-1)) over its largest value; the last is `floor`. Constant
    norms, or none, give linear decay (T - 1 - t) / (T - 1).

    The theory takes exponent 2 and the L2 norm for SGD, 1 and the L1 norm for Adam. A run records the L2 norm; for
    Adam it stands in for the L1 norm, which is right where the gradient's spread over its entries changes little.

    When to use: the same run will be made again (other seeds, a little more data). When not: for a single run, or
    from the norms of an already refined run.
    """

    name: ClassVar[str] = "refined_schedule"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement",
            arxiv="2310.07831",
            card=192,
        ),
    )

    warmup: float = option(
        0.0, "Linear rise from 0 before the schedule, which brings its own: a share below 1, or steps.",
        changes="loss", to=4.0, ge=0,
    )  # fmt: skip
    norms: str | tuple[Annotated[float, Field(ge=0)], ...] = option(
        (), "The earlier run's metrics.jsonl, or its gradient norms step by step; linear decay when empty.",
        changes="loss", to=[6.0, 1.0, 1.5, 2.0],
    )  # fmt: skip
    tau: float = option(
        0.1, "Width of the running median as a share of the earlier run.", changes="loss", to=0.8,
        given={"schedule.norms": [6.0, 1.0, 4.0, 2.0, 3.0]}, ge=0, le=1,
    )  # fmt: skip
    exponent: float = option(
        1.0, "Power of the norms: 1 for Adam-like optimizers, 2 for SGD.", changes="loss", to=2.0,
        given={"schedule.norms": [6.0, 1.0, 1.5, 2.0]}, gt=0,
    )  # fmt: skip
    floor: float = option(0.0, "Smallest factor.", changes="loss", to=0.5, ge=0, le=1)

    @field_validator("norms")
    @classmethod
    def _readable(cls, norms: str | tuple[float, ...]) -> str | tuple[float, ...]:
        if norms and not any(_values(norms)):
            raise ValueError("all gradient norms are zero")
        return norms

    def after(self, step: int, total: int) -> float:
        values = _values(self.norms) if self.norms else (1.0,)
        return max(self.floor, float(_refined(values, total, self.tau, self.exponent)[step]))


def _values(norms: str | tuple[float, ...]) -> tuple[float, ...]:
    """The norms given, or those of the lines of a metrics file.

    Raises `ValueError` when the file cannot be read or has none.
    """
    if not isinstance(norms, str):
        return norms
    try:
        lines = [json.loads(line) for line in Path(norms).read_text().splitlines()]
        found = tuple(float(line["gradient_norm"]) for line in lines if "gradient_norm" in line)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"'{norms}' cannot be read as the metrics of a run: {error}") from None
    if not found:
        raise ValueError(f"'{norms}' holds no line with gradient_norm")
    return found


@lru_cache(maxsize=8)
def _refined(values: tuple[float, ...], total: int, tau: float, exponent: float) -> Floats:
    """The factors of `total` steps."""
    if total == 1:
        return np.ones(1)
    norms = np.asarray(values, dtype=np.float64)
    norms = smoothed(np.where(norms > 0, norms, norms[norms > 0].min()), tau)
    if len(norms) != total:
        norms = np.interp(np.linspace(0, 1, total), np.linspace(0, 1, len(norms)), norms)
    weights = (norms / norms.max()) ** -exponent
    left = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    factors: Floats = weights * left
    return factors / factors.max()


def smoothed(norms: Floats, tau: float) -> Floats:
    """The running median: odd width 2 floor(tau n / 2) + 1, the first value repeated before, mirrored after the end."""
    half = min(int(tau * len(norms) / 2), len(norms) - 1)
    padded = np.pad(np.pad(norms, (half, 0), mode="edge"), (0, half), mode="reflect")
    median: Floats = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return median
