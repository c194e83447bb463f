"""`report.html`: the evidence of a run as one file that needs nothing else."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tunewright import output
from tunewright.report import changes, curves, figures
from tunewright.report.charts import by_example, by_format, forest, reliability
from tunewright.report.evidence import Evidence, Measure

FILE = "report.html"

LONGEST = 20_000
"""Characters of a text that the report shows; the rest stands in evidence.json."""

HEAD = 420
"""Characters of a prompt that show before it is unfolded."""

KINDS = {
    "target": "Target: what the tuning is for",
    "retention": "Retention: what should not change",
    "other": "Also measured",
}


COLUMNS = (
    ("Rows", "rows_in"),
    ("Trained on", "rows_kept"),
    ("Cut", "cut"),
    ("Too long", "dropped"),
    ("Duplicate", "duplicates"),
    ("Also in eval", "overlap"),
    ("Empty", "empty"),
    ("Left out", "left_out"),
    ("Held out", "held_out"),
    ("Tokens", "tokens"),
    ("Tokens lost", "tokens_lost"),
    ("Answers lost", "answers_lost"),
)
"""Heading and field of the data table."""

LOSSES = frozenset({"cut", "dropped", "duplicates", "overlap", "empty", "left_out", "tokens_lost", "answers_lost"})
"""Columns in which anything but 0 stands out."""


def write(folder: Path, evidence: Evidence, metrics_path: Path, recipe_yaml_text: str) -> Path:
    """Writes `report.html` into `folder`, whole or not at all; returns its path."""
    path = folder / FILE
    output.write(path, render(evidence, metrics_path, recipe_yaml_text))
    return path


def render(evidence: Evidence, metrics_path: Path, recipe_yaml_text: str) -> str:
    """The report as HTML; all text of the user's is escaped."""
    page = environment().get_template("report.html")
    return page.render(
        evidence=evidence,
        groups=_groups(evidence),
        by_name={measure.name: measure for measure in evidence.measures},
        findings=_findings(evidence),
        columns=COLUMNS,
        forest=forest(evidence.measures),
        curves=curves.charts(curves.read(metrics_path)),
        reliability=[reliability(item) for item in evidence.calibration],
        wordings=[*map(by_format, evidence.formats), *map(by_example, evidence.sensitivity)],
        recipe=_yaml(recipe_yaml_text),
        losses=LOSSES,
        figures=figures,
    )


class Fold(NamedTuple):
    """A text, and the beginning that shows while it is folded (empty when it is short enough to show whole)."""

    head: str
    whole: str


def environment() -> Environment:
    """The templates of this folder, with their filters; all text of the user's is escaped."""
    made = Environment(
        loader=PackageLoader("tunewright", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(visible=_visible, fold=_fold, minus=_minus, headline=_headline)
    made.globals.update(compare=_compare)
    return made


def _groups(evidence: Evidence) -> list[tuple[str, list[Measure]]]:
    groups = [(title, [m for m in evidence.measures if m.kind == kind]) for kind, title in KINDS.items()]
    return [(title, measures) for title, measures in groups if measures]


def _findings(evidence: Evidence) -> list[tuple[str, str, int]]:
    """How often each finding occurs, with its tone: better and worse first."""
    tones = {measure.finding: measure.tone for measure in evidence.measures}
    counted = Counter(measure.finding for measure in evidence.measures)
    order = ["better", "worse", "changed", "open"]
    return sorted(((tones[f], f, n) for f, n in counted.items()), key=lambda item: (order.index(item[0]), item[1]))


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")


def _headline(text: str) -> str:
    """The verdict with a capital, true minus signs, and intervals that no line break cuts."""
    shown = _visible(text)
    signed = re.sub(r"(?<!\w)-(?=[\d.])", "\u2212", shown[:1].upper() + shown[1:])
    return re.sub(r"\[[+\u2212\d.,% ]+\]", lambda match: match[0].replace(" ", "\u00a0"), signed)


def _visible(text: str) -> str:
    """Text as a page can show it: cut to `LONGEST`, control characters as the signs Unicode has for them."""
    lines = text[:LONGEST].replace("\r\n", "\n")
    shown = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda match: chr(0x2400 + ord(match[0])), lines)
    left = len(text) - LONGEST
    return shown if left <= 0 else f"{shown}\n[{left:,} more characters in evidence.json]"


def _fold(text: str) -> Fold:
    shown = _visible(text)
    return Fold(shown[:HEAD].rsplit(" ", 1)[0] if len(shown) > HEAD * 1.3 else "", shown)


def _compare(before: str, after: str) -> tuple[Markup, Markup]:
    left, right = changes.compare(_visible(before), _visible(after))
    return _marked(left, "del"), _marked(right, "ins")


def _marked(pieces: list[changes.Piece], tag: str) -> Markup:
    return Markup("").join(
        Markup("<{0}>{1}</{0}>").format(Markup(tag), piece.text) if piece.differs else escape(piece.text)
        for piece in pieces
    )


def _yaml(text: str) -> Markup:
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import YamlLexer  # type: ignore[import-untyped]

    return Markup(highlight(text, YamlLexer(), HtmlFormatter(nowrap=True)))
