"""The summary of a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunewright.report import figures, html
from tunewright.report.evidence import FILE, Evidence, Grid, Measure

COLOURS = {"better": "green", "worse": "red", "changed": "magenta", "open": ""}


def show(evidence: Evidence, folder: Path, console: Console | None = None) -> None:
    """Prints the verdict, the measures with their intervals, warnings, cost, and where the files are."""
    out = console or Console()
    out.print(_summary(evidence))
    files = {"report": folder / html.FILE, "evidence": folder / FILE, "adapter": folder / "adapter"}
    _show_files(out, **{name: file for name, file in files.items() if file.exists()})


def _show_files(out: Console, **files: Path) -> None:
    """A line per file, never broken: a path is there to be copied."""
    for name, file in files.items():
        out.print(Text(f"{name:<9} {file}"), soft_wrap=True)


def _summary(evidence: Evidence) -> RenderableType:
    parts: list[RenderableType] = [Text(), Text(evidence.verdict, style="bold"), Text()]
    if evidence.measures:
        parts.append(_table(evidence.measures))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in evidence.data.warnings]
    parts += [_cost(evidence), Text()]
    return Group(*parts)


def show_measures(
    verdict: str, measures: Sequence[Any], grids: Sequence[Grid] = (), console: Console | None = None
) -> None:
    """Prints a verdict, its measures, and the tables of those that have some."""
    found, out = tuple(Measure.model_validate(one) for one in measures), console or Console()
    out.print(Text(verdict, style="bold"), _table(found))
    for grid in grids:
        out.print(_grid(grid))


def _grid(grid: Grid) -> Table:
    """The tuned model's numbers: those of the base beside them would not fit a terminal."""
    title = f"{grid.task}: {grid.title} (the tuned model)"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", title=title, title_justify="left")
    heads, lines = grid.shown()
    table.add_column("", overflow="fold")
    for name in heads:
        table.add_column(Text(name), justify="right", overflow="fold")
    for name, cells in lines:
        table.add_row(Text(name), *("" if after is None else f"{after:.3g}" for _, after in cells))
    return table


def show_comparison(found: Mapping[str, Any], folder: Path, console: Console | None = None) -> None:
    """Prints a comparison (as its JSON holds it): verdict, a table of the arms per measure, warnings, where files are."""
    out = console or Console()
    out.print(Text(), Text(found["verdict"], style="bold"), Text(), sep="\n")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("arm", overflow="fold", min_width=12, ratio=1)
    for name in ("mean", "difference", "p\neffect", "won, tied\nlost", "time\nmemory"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    described = found["measures"][found["measure"]]
    for row in found["arms"]:
        level = Measure(
            name=found["measure"], kind=described["role"], metric=described["metric"], before=row["mean"],
            after=row["mean"], delta=row["delta"], low=row["delta_low"], high=row["delta_high"],
            n=described["examples"], higher_is_better=described["higher_is_better"], unit=described["unit"],
            finding=row["finding"] or "reference",
        )  # fmt: skip
        ends = ", ".join(figures.level(level, row[end]) for end in ("low", "high"))
        judged = row["delta"] is not None
        size = row["effect_size"]
        table.add_row(
            Text(row["name"]) + Text(f"\n{level.finding}", style=COLOURS[level.tone]),
            f"{figures.level(level, row['mean'])}\n\\[{ends}]",
            Text(
                f"{figures.change(level, row['delta'])}\n{figures.interval(level)}" if judged else "",
                style=COLOURS[level.tone],
            ),
            f"{row['p_corrected']:.2g}\n{'' if size is None else f'{size:+.2f}'}" if judged else "",
            f"{row['wins']}, {row['ties']}\n{row['losses']}" if judged else "",
            f"{figures.duration(row['cost']['seconds'])}\n{figures.memory(row['cost']['peak_memory_bytes'])}",
            end_section=True,
        )
    out.print(table)
    for warning in found["warnings"]:
        out.print(Text(f"warning: {warning}", style="yellow"))
    _show_files(out, report=folder / "comparison.html", numbers=folder / "comparison.json")


def show_methods(described: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Prints per kind a line for every method: what it does and needs, papers, and how far it can be believed."""
    out = console or Console()
    for kind, methods in groupby(described, key=lambda method: str(method["kind"])):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", title=kind, title_justify="left")
        table.add_column("name", no_wrap=True, style="bold")
        table.add_column("what it does", overflow="fold", ratio=1, min_width=24)
        table.add_column("paper", no_wrap=True)
        table.add_column("standing", no_wrap=True)
        for method in methods:
            needs = [Text(f"needs {', '.join(method['needs'])}", "dim")] if method["needs"] else []
            papers = method.get("papers") or filter(None, [method["paper"]])
            table.add_row(
                method["name"], Text("\n").join([Text(method["summary"]), *needs]),
                "\n".join(paper["arxiv"] or "no arXiv" for paper in papers), _standing(method),
            )  # fmt: skip
        out.print(table)


def _standing(method: Mapping[str, Any]) -> Text:
    """Maturity, whether the method has a test, and the verdicts on its papers' claims."""
    lines = [Text(method["maturity"], "dim" if method["missing"] else "green")]
    lines += [Text(f"test {'yes' if method['property_test'] else 'no'}", "dim")]
    return Text("\n").join([*lines, *(Text("claim ") + _verdict(one["verdict"]) for one in method["claims"])])


def _verdict(verdict: str | None) -> Text:
    return Text(verdict or "not judged", VERDICTS[verdict])


def _maturity(method: Mapping[str, Any]) -> Text:
    missing = f" (no {', no '.join(method['missing'])})" if method["missing"] else ""
    return Text(method["maturity"] + missing, "dim" if method["missing"] else "green")


def show_chain(found: Mapping[str, Any], folder: Path, console: Console | None = None) -> None:
    """Prints the scores of every stage's rows after every stage with their 95% intervals, and what was kept."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name in ("", *found["stages"]):
        table.add_column(Text(name), justify="right" if name else "left")
    cell = lambda score, ends: Text(f"{score:.3f}" + (" [{:.3f}, {:.3f}]".format(*ends) if ends else ""))
    for name, *row in zip(["base", *found["stages"]], found["matrix"], found["intervals"], strict=True):
        table.add_row(Text(f"after {name}"), *map(cell, *row))
    kept = [Text(f"{name:<12} {value:.3f}  {said}") for name, value, said in found["quantities"] if value is not None]
    out = console or Console()
    out.print(Text(found["verdict"], style="bold"), table, *kept, Text(), sep="\n")
    _show_files(out, chain=folder / "chain.html")


VERDICTS = {"holds": "green", "does not hold": "red", "undecided": "yellow", None: "dim"}


def show_claims(listed: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Prints a line per claim: name, sentence, verdict, and the effect that decides with its interval."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("claim", overflow="fold", style="bold")
    table.add_column("sentence", overflow="fold", ratio=1)
    table.add_column("verdict", no_wrap=True)
    table.add_column("effect [95% interval]", overflow="fold")
    for claim in listed:
        verdict = Text(claim["verdict"] or "not judged", style=VERDICTS[claim["verdict"]])
        found = claim["effect"] is not None
        effect = "{effect:.3g} [{low:.3g}, {high:.3g}] {unit}".format(**claim) if found else ""
        table.add_row(claim["name"], Text(claim["sentence"]), verdict, Text(effect))
    (console or Console()).print(table)


def show_method(described: Mapping[str, Any], docstring: str, console: Console | None = None) -> None:
    """Prints a method whole: its docstring with the equations, its fields with defaults, needs and papers."""
    out = console or Console()
    out.print(Text(f"{described['kind']} {described['name']}", style="bold"), Text(docstring), sep="\n\n")
    for paper in described.get("papers") or filter(None, [described["paper"]]):
        out.print(Text(f"\npaper  {_cited(paper)}"))
    out.print(Text(f"needs  {', '.join(described['needs']) or 'nothing'}"))
    out.print(Text(f"test   {described['property_test'] or 'none found'}"))
    for claim in described["claims"]:
        out.print(Text(f"claim  {claim['name']}: ") + _verdict(claim["verdict"]))
    out.print(Text("state  ") + _maturity(described))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name in ("field", "type", "default", "help"):
        table.add_column(name, overflow="fold")
    for field in described["fields"]:
        table.add_row(*(Text(str(field[name])) for name in ("name", "type", "default", "help")))
    out.print(table)


def _cited(paper: Mapping[str, Any]) -> str:
    return f"{paper['title']} (arXiv {paper['arxiv']})" if paper["arxiv"] else str(paper["title"])


def _table(measures: tuple[Measure, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("measure", overflow="fold", min_width=12)
    for name in ("before", "after", "change [95% interval]"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    table.add_column("finding")
    table.add_column("n", justify="right")
    for measure in measures:
        change = f"{figures.change(measure, measure.delta)} {figures.interval(measure)}".strip()
        table.add_row(
            Text(figures.title(measure)),
            figures.level(measure, measure.before),
            figures.level(measure, measure.after),
            Text(change, style=COLOURS[measure.tone]),
            Text(measure.finding.removesuffix(" found"), style=COLOURS[measure.tone]),
            figures.number(measure.n),
        )
    return table


def _cost(evidence: Evidence) -> Text:
    cost, settings = evidence.cost, evidence.settings
    said = [
        f"{figures.count(cost.tokens)} tokens in {figures.duration(cost.seconds)}",
        f"{figures.count(cost.tokens_per_second)} tokens/s",
        f"{figures.memory(cost.peak_memory_bytes)} peak memory",
    ]
    if settings:
        trained, every = figures.count(settings.trained_parameters), figures.count(settings.all_parameters)
        said.append(f"{trained} of {every} parameters trained")
    return Text(", ".join(said), style="dim")
