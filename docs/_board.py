"""The claims board, made from the claims' classes and their kept results while the documentation is built."""

from __future__ import annotations

import inspect
from html import escape
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tunewright import board, catalog

PAGE = "claims.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the board into the navigation."""
    assert config.nav is not None
    config.nav.append({"Claims": PAGE})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the board."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """Every claim with its verdict, and below it the run that the verdict comes from."""
    listed = board.listed()
    counts = [f"{sum(row['verdict'] == v for row in listed)} {v or 'not judged'}" for v in ("holds", "does not hold", "undecided", None)]  # fmt: skip
    lines = [
        "# Claims", "",
        "Headline claims of papers, each re-run in miniature on the embedded model or on generated data, and judged by a "
        "rule that was fixed before the run: what is measured, in which direction, and the smallest effect of interest. "
        "A claim **holds** when the 95% interval lies beyond that effect, **does not hold** when it excludes it, and is "
        "**undecided** otherwise; a claim of several parts holds when all of them do. A verdict speaks about this "
        "miniature, not about the paper's own scale.", "",
        f"{', '.join(counts)}. `tunewright claims run NAME` runs one again and gives the same verdict.", "",
        "| claim | about | verdict | deciding effect [95% interval] |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| [{row['name']}](#{row['name']}) | {row['kind']} | {row['verdict'] or 'not judged'} | {_effect(row)} |" for row in listed]  # fmt: skip
    for cls in catalog.methods("claim"):
        lines += ["", f"## {cls.name}", "", *_section(cls)]
    return "\n".join(lines) + "\n"


def _section(cls: Any) -> list[str]:
    papers = "; ".join(
        f'<a href="https://arxiv.org/abs/{paper.arxiv}">{escape(paper.title)}</a>' for paper in cls.papers
    )
    told = inspect.getdoc(cls) or ""
    lines = [
        f"<p><strong>{escape(cls.sentence)}</strong></p>",
        *(f"<p>{escape(part)}</p>" for part in told.split("\n\n")),
    ]
    lines += [f"<p>Paper: {papers}</p>"] if papers else []
    arms = "; ".join(f"{name}: {said}" for name, said in cls.arms.items())
    lines += [f"<p>Arms: {escape(arms)}. Budget: {escape(cls.budget)}. Seeds: {cls.seeds}.</p>"]
    found = board.result(cls.name)
    judged = {one.quantity: one for one in found.criteria} if found else {}
    rows = [
        f"<tr><td>{escape(c.quantity)}</td><td>{_rule(c)}</td><td>{_found(judged.get(c.quantity))}</td>"
        f"<td>{judged[c.quantity].verdict if found else 'not judged'}</td></tr>"
        for c in cls.criteria
    ]
    head = "<tr><th>quantity</th><th>claimed</th><th>found [95% interval]</th><th>verdict</th></tr>"
    lines += ["", f'<div class="fields"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>']
    if found:
        spent = "; ".join(f"{arm}: {_spent(each)}" for arm, each in found.spent.items())
        versions = ", ".join(f"{name} {found.versions[name]}" for name in ("torch", "numpy") if name in found.versions)
        lines += ["", f"<p>Verdict: <strong>{found.verdict}</strong>, {escape(found.date)}, {found.seconds:.0f} seconds on "
                  f"{escape(found.machine)}; {escape(versions)}. Trained: {escape(spent)}.</p>"]  # fmt: skip
    return lines


def _rule(criterion: Any) -> str:
    sign = {"above": "above ", "below": "below ", "within": "within &plusmn;"}[criterion.expected]
    return f"{sign}{criterion.bound:g} {escape(criterion.unit)}"


def _found(one: Any) -> str:
    return "" if one is None else f"{one.effect:.3g} [{one.low:.3g}, {one.high:.3g}] {escape(one.unit)}, n = {one.n}"


def _effect(row: dict[str, Any]) -> str:
    return "" if row["effect"] is None else "{effect:.3g} [{low:.3g}, {high:.3g}] {unit}".format(**row)


def _spent(each: Any) -> str:
    parts = [f"{count:,} {name}" for name, count in each.model_dump().items() if count]
    return " of ".join(parts[:1]) + (f", {', '.join(parts[1:])}" if parts[1:] else "") if parts else "nothing"
