"""`chain.html`: what a sequence of tuning runs kept and lost, as one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tunewright import output
from tunewright.report.html import environment

FILE = "chain.html"


def write(folder: Path, found: Mapping[str, Any]) -> Path:
    """Writes `chain.html` into `folder`, whole or not at all; returns its path."""
    path = folder / FILE
    output.write(path, render(found))
    return path


def render(found: Mapping[str, Any]) -> str:
    """The page as HTML, from the content of `chain.json`."""
    return (
        environment()
        .get_template("chain.html")
        .render(found=found, heat=heat_map(found["stages"], found["matrix"], found["intervals"]))
    )


def heat_map(
    stages: Sequence[str],
    matrix: Sequence[Sequence[float]],
    intervals: Sequence[Sequence[Sequence[float] | None]],
) -> Markup:
    """A table of scores, a row per state of the model (the base first) and a column per stage, darker where higher.

    Under every score stands its interval, where there is one.

    Shades run from the lowest to the highest score of each column, since tasks differ in what is a high score; the
    score after a stage's own training has a frame.
    """
    head = Markup("").join(Markup("<th class='n'>{0}</th>").format(name) for name in stages)
    rows = []
    for place, (name, scores, ends) in enumerate(zip(["base", *stages], matrix, intervals, strict=True)):
        cells = Markup("").join(
            _cell(score, ends[k], [row[k] for row in matrix], place == k + 1) for k, score in enumerate(scores)
        )
        rows.append(Markup("<tr><th scope='row'>after {0}</th>{1}</tr>").format(name, cells))
    return Markup("<table class='heat'><thead><tr><th></th>{0}</tr></thead><tbody>{1}</tbody></table>").format(
        head, Markup("").join(rows)
    )


def _cell(score: float, ends: Sequence[float] | None, column: Sequence[float], own: bool) -> Markup:
    low, high = min(column), max(column)
    share = (score - low) / (high - low) if math.isfinite(score) and high > low else 0.0
    interval = Markup("<br><small>[{0:.3f}, {1:.3f}]</small>").format(*ends) if ends else ""
    return Markup("<td class='n{0}' style='--heat:{1:.0f}%'>{2:.3f}{3}</td>").format(
        " own" if own else "", 70 * share, score, interval
    )
