"""`comparison.html`: a comparison as one file that needs nothing else, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from markupsafe import Markup

from tunewright import output
from tunewright.comparison.outcome import ArmOutcome, Comparison
from tunewright.comparison.verdict import POSITION, number, plain
from tunewright.report import figures
from tunewright.report.charts import Line, axis, forest, line_chart
from tunewright.report.evidence import Measure
from tunewright.report.html import environment

Style = Literal["main", "second", "third", "fourth"]
STYLES: tuple[Style, ...] = get_args(Style)

COSTS = (("Training time", "seconds"), ("Peak memory", "peak_memory_bytes"))
"""Title and name of the costs that quality is drawn against."""


def write(path: Path, comparison: Comparison) -> None:
    """Writes the page, whole or not at all."""
    output.write(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The page as HTML."""
    rows = {measure: _rows(comparison, measure) for measure in comparison.measures}
    page = environment().get_template("comparison.html")
    return page.render(
        comparison=comparison,
        found=plain(comparison),
        rows=rows,
        forests={measure: forest(list(each.values())) for measure, each in rows.items()},
        levels={measure: _level(comparison, measure) for measure in comparison.measures},
        frontier={name: frontier(comparison, name) for _, name in COSTS},
        charts=[*(_pareto(comparison, title, name) for title, name in COSTS), _seeds(comparison)],
        budget=f"{number(comparison.budget.amount)} {POSITION[comparison.budget.unit]}" if comparison.budget else None,
        recipes={arm.name: output.as_yaml(arm.recipe) for arm in comparison.arms},
        figures=figures,
    )


def frontier(comparison: Comparison, cost: str) -> list[str]:
    """The arms that no other arm beats in mean quality at no more of this cost."""
    about = comparison.about[comparison.measure]
    turn = 1.0 if about.higher_is_better else -1.0
    points = [(arm.cost()[cost], turn * arm.mean(comparison.measure).estimate, arm.name) for arm in comparison.arms]
    beaten = lambda c, q: any((a <= c and b >= q) and (a < c or b > q) for a, b, _ in points)
    return [name for c, q, name in sorted(points) if not beaten(c, q)]


def _level(comparison: Comparison, measure: str) -> Measure:
    """The measure as the report's number formats know it."""
    about, reference = comparison.about[measure], comparison.arms[0].mean(measure).estimate
    return Measure(
        name=measure, kind=about.role, metric=about.metric, before=reference, after=reference, delta=0.0, low=None,
        high=None, n=len(about.ids), higher_is_better=about.higher_is_better, unit=about.unit, finding="",
    )  # fmt: skip


def _rows(comparison: Comparison, measure: str) -> dict[str, Measure]:
    """Every arm but the reference as a measured difference, so that it is drawn like one of a run."""
    level = _level(comparison, measure)
    return {
        name: level.model_copy(
            update={
                "name": name, "after": comparison.arm(name).mean(measure).estimate, "delta": effect.delta,
                "low": effect.low, "high": effect.high, "finding": effect.finding,
            }
        )
        for name, effect in comparison.effects(measure).items()
    }  # fmt: skip


def _pareto(comparison: Comparison, title: str, cost: str) -> Markup:
    best = frontier(comparison, cost)
    place = lambda arm: (arm.cost()[cost], arm.mean(comparison.measure).estimate)
    lines = [Line("nothing better at less cost", [place(comparison.arm(name)) for name in best], "ideal")]
    lines += [Line(arm.name, [place(arm)], _style(index)) for index, arm in enumerate(comparison.arms)]
    label = figures.duration if cost == "seconds" else figures.memory
    shown = _level(comparison, comparison.measure)
    return line_chart(
        f"{figures.title(shown)} against {title.lower()}", lines, lambda value: figures.level(shown, value),
        across=axis((arm.cost()[cost] for arm in comparison.arms), floor=0.0), across_name=title.lower(),
        across_label=label,
    )  # fmt: skip


def _seeds(comparison: Comparison) -> Markup:
    shown = _level(comparison, comparison.measure)
    lines = [Line(arm.name, _by_seed(comparison, arm), _style(k), dots=True) for k, arm in enumerate(comparison.arms)]
    return line_chart(
        f"{figures.title(shown)} by seed", lines, lambda value: figures.level(shown, value), across_name="seed"
    )


def _by_seed(comparison: Comparison, arm: ArmOutcome) -> Sequence[tuple[float, float]]:
    return [(float(s), float(v)) for s, v in zip(comparison.seeds, arm.scores[comparison.measure], strict=True)]


def _style(index: int) -> Style:
    return STYLES[index % len(STYLES)]
