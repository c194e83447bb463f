"""The course of a run, from `metrics.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tunewright.report.charts import Line, Points, line_chart, smooth, thinned

Row = Mapping[str, Any]

FEW_POINTS = 25
"""Below this many points a curve shows each one and is not smoothed."""

STYLES = ("main", "second", "third", "fourth")


def read(metrics: Path) -> list[Row]:
    """The rows of a metrics file in the order of steps; none when there is no file.

    A run that was resumed repeats the steps after its last checkpoint: the later row counts. A line that a kill cut
    short is left out.
    """
    training: dict[int, Row] = {}
    evaluations: dict[int, Row] = {}
    for line in metrics.read_text("utf-8", "replace").splitlines() if metrics.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            (evaluations if "evaluation" in row else training)[row["step"]] = row
    return [rows[step] for rows in (training, evaluations) for step in sorted(rows)]


def charts(rows: Sequence[Row]) -> list[Markup]:
    """Charts of loss, learning rate, gradient norm and speed, of the loss per source, and of evaluations on the way."""
    made = []
    if loss := _points(rows, "loss"):
        made.append(line_chart("Training loss", _noisy(loss)))
    if rate := _points(rows, "lr"):
        made.append(line_chart("Learning rate", [Line("", thinned(rate), dots=len(rate) < FEW_POINTS)]))
    if norm := _points(rows, "gradient_norm"):
        made.append(line_chart("Gradient norm before clipping", _noisy(norm)))
    if speed := _points(rows, "tokens_per_second"):
        made.append(line_chart("Training tokens per second", _noisy(speed)))
    if len(sources := _by_name(rows, "sources")) > 1:
        made.append(_several("Training loss per source (smoothed)", sources, smoothed=True))
    for name, points in _by_name(rows, "evaluation").items():
        made.append(line_chart(f"During training: {name.replace('_', ' ')}", [Line("", points, dots=True)]))
    return made


def _points(rows: Sequence[Row], key: str) -> Points:
    return [(row["step"], float(row[key])) for row in rows if _is_number(row.get(key))]


def _by_name(rows: Sequence[Row], key: str) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in (row.get(key) or {}).items():
            if _is_number(value):
                found.setdefault(str(name), []).append((row["step"], float(value)))
    return found


def _noisy(points: Points) -> list[Line]:
    if len(points) < FEW_POINTS:
        return [Line("", points, dots=True)]
    smoothed = thinned(smooth(points, len(points) / 40))
    return [Line("per step", thinned(points), "faint"), Line("smoothed", smoothed)]


def _several(title: str, series: Mapping[str, Points], *, smoothed: bool) -> Markup:
    return line_chart(
        title,
        [
            Line(name, thinned(smooth(points, len(points) / 40) if smoothed else points), STYLES[index % len(STYLES)])  # type: ignore[arg-type]
            for index, (name, points) in enumerate(series.items())
        ],
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
