"""The measurement as a page of text that Markdown shows as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunewright.bench.jobs import RANK, ROWS

if TYPE_CHECKING:
    from tunewright.bench.measuring import Row

NONE = "-"


def table(
    rows: Sequence[Row],
    started: Mapping[str, float | None],
    found: Mapping[str, Any],
    missing: Sequence[str],
    repeats: int,
) -> str:
    """Speeds and memory of all sides, ratios, and start-up times."""
    hardware, versions = found["machine"], found["versions"]
    named = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "transformers", "peft", "trl") if name in versions
    )
    accelerator = f", {hardware['accelerator']}" if hardware["accelerator"] else ""
    lines = [
        f"{hardware['cores']} cores, {hardware['threads']} threads, {hardware['capability']}{accelerator}; {named}",
        f"LoRA rank {RANK} on all linear layers, {ROWS} sequences a step, loss on completions; medians of {repeats}",
        "",
        "| tokens/s | ours | by hand | TRL | TRL, activations kept | ours / TRL | ours / TRL kept | over by hand | share of peak |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {row.size} {row.precision} | {row.ours:,.0f} | {row.by_hand:,.0f} | {_speed(row.peer)} "
            f"| {_speed(row.peer_kept)} | {_ratio(row.times_peer)} | {_ratio(row.times_peer_kept)} "
            f"| {row.overhead:+.1%} | {row.peak_share:.1%} |"
            for row in rows
        ),
        "",
        "| peak memory, MB | ours | by hand | TRL | TRL, activations kept | ours / TRL | ours / TRL kept |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {row.size} {row.precision} | {_megabytes(row.ours_memory)} | {_megabytes(row.by_hand_memory)} "
            f"| {_megabytes(row.peer_memory)} | {_megabytes(row.peer_kept_memory)} | {_ratio(row.memory_share)} "
            f"| {_ratio(row.memory_share_kept)} |"
            for row in rows
        ),
    ]
    if missing:
        lines += ["", f"TRL is not measured: {' and '.join(missing)} not installed (pip install 'tunewright[bench]')"]
    if started:
        first = started["first_step"]
        step = f"{first:.1f} s" if first is not None else "not measured, its weights are not there"
        lines += ["", f"--help: {started['help']:.2f} s; first training step of the embedded model: {step}"]
    return "\n".join(lines)


def _speed(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _megabytes(value: int | None) -> str:
    return NONE if value is None else f"{value / 1e6:,.0f}"
