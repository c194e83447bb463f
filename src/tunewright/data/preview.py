"""What the model will see: examples token by token with their loss weights, and the account of all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from tunewright.data import lengths
from tunewright.data.completing import changed
from tunewright.data.counts import SourceReport, cells, plain_table
from tunewright.data.formats.base import Writer
from tunewright.data.parts import Part, parts
from tunewright.data.prepare import Prepared, prepare
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.templates import Rendered, Renderer
from tunewright.recipe import Recipe

HEAD, TAIL = 240, 80
"""Tokens shown of a long example at its beginning and end."""

LINE_END = "⏎"


@dataclass(frozen=True)
class Example:
    """One record as it is trained on: its title and its tokens with their weights; `gap` tokens are not shown."""

    title: str
    tokens: list[tuple[str, float, bool]]
    gap: int = 0

    def plain(self) -> str:
        """Runs of tokens of one weight, each token between bars, special tokens as they are named."""
        lines = [self.title]
        for part, more in ((self.tokens[:HEAD], self.gap), (self.tokens[HEAD:], 0)):
            for weight, run in groupby(part, key=lambda token: token[1]):
                lines.append(f"  {weight:<5g}|{'|'.join(text for text, _, _ in run)}|")
            if more:
                lines.append(f"  ... {more:,} tokens ...")
        return "\n".join(lines)

    def coloured(self) -> Text:
        """The tokens in colours of their weights, one shade apart from token to token."""
        made = Text(self.title + "\n", style="bold")
        for index, (text, weight, special) in enumerate(self.tokens):
            if self.gap and index == HEAD:
                made.append(f"\n... {self.gap:,} tokens ...\n", style="dim italic")
            shade = " on grey15" if index % 2 else " on grey7"
            made.append(text, style=_colour(weight) + shade + (" bold reverse" if special else ""))
            if text.endswith(LINE_END):
                made.append("\n")
        return made


def preview(
    recipe: Recipe,
    tokenizer: Any,
    n: int = 3,
    plain: bool = False,
    context: int | None = None,
    cache_dir: Path | None = None,
    *,
    vocabulary: int | None = None,
    writers: Mapping[str, Writer] = {},
) -> RenderableType:
    """The first `n` records of each training source, the table of counts, special tokens and warnings.

    A string when `plain`, else something rich prints in colour. Why a run would not start on this data is told at the
    end. Raises `BadInput` for rows that cannot be read.
    """
    prepared = prepare(recipe, tokenizer, context, cache_dir, vocabulary=vocabulary, strict=False, writers=writers)
    shown = list(examples(recipe, prepared, n))
    notes = [*_formats(prepared), *_specials(prepared)]
    warned = [f"warning: {text}" for text in prepared.warnings]
    refused = [f"a run refuses this data: {fault}" for fault in prepared.refused]
    lines = cells(prepared.sources)
    if plain:
        return "\n\n".join(
            [*(item.plain() for item in shown), plain_table(lines), "\n".join([*notes, *warned, *refused])]
        )
    legend = (
        Text("weight 0  ", _colour(0))
        + Text("below 1  ", _colour(0.5))
        + Text("1  ", _colour(1))
        + Text("above 1", _colour(2))
    )
    told = [Text(text) for text in notes] + [Text(text, "yellow") for text in warned]
    told += [Text(text, "bold red") for text in refused]
    return Group(legend, *(part for item in shown for part in (item.coloured(), Text())), _grid(lines), *told)


def examples(recipe: Recipe, prepared: Prepared, n: int) -> Iterator[Example]:
    """The first `n` records of each training source as they are trained on."""
    for part in parts(recipe):
        if part.role == "train" and changed(part.source):
            yield from _completed(part, prepared, n)
        elif part.role == "train":
            renderer = prepared.renderers[part.number]
            for record in islice(Reader(part.source, part.origin, part.place, part.number).records(), n):
                yield _example(record, renderer, prepared.limit)


def _completed(part: Part, prepared: Prepared, n: int) -> Iterator[Example]:
    """The first `n` sequences of a source whose records come from more than their own row: those that were kept."""
    table = prepared.train
    for index in np.flatnonzero(table.columns["source"] == part.number)[:n].tolist():
        span = slice(int(table.starts[index]), int(table.starts[index + 1]))
        shown = Rendered(table.ids[span].tolist(), table.weights[span].tolist())
        yield _shortened(_title(table.where(index), shown), shown, prepared.renderers[part.number])


def _title(where: str, shown: Rendered) -> str:
    return f"{where}: {len(shown.ids):,} tokens, {shown.trained:,} with loss ({shown.trained / len(shown.ids):.0%})"


def _example(record: Record, renderer: Renderer, limit: int | None) -> Example:
    whole = renderer.render(record)
    reading = renderer.reading
    kept = lengths.shortened(whole, limit, reading.truncation, renderer.encoder.prefix)
    shown = kept or whole
    title = _title(record.where, shown)
    if kept is None:
        title += f"; dropped, longer than {limit:,}"
    elif len(kept.ids) < len(whole.ids):
        title += f"; cut ({reading.truncation}) from {len(whole.ids):,}"
    elif not kept.trained:
        title += "; left out, nothing to learn"
    if record.label is False:
        title += "; left out, judged false"
    return _shortened(title, shown, renderer)


def _shortened(title: str, rendered: Rendered, renderer: Renderer) -> Example:
    gap = max(0, len(rendered.ids) - HEAD - TAIL)
    chosen = range(len(rendered.ids)) if not gap else [*range(HEAD), *range(HEAD + gap, len(rendered.ids))]
    specials = renderer.encoder.specials
    return Example(
        title,
        [(_visible(rendered.ids[i], renderer), rendered.weights[i], rendered.ids[i] in specials) for i in chosen],
        gap,
    )


def _visible(index: int, renderer: Renderer) -> str:
    name = renderer.encoder.name(index)
    if index in renderer.encoder.specials:
        return name
    if "▁" in name:
        return name.replace("▁", " ")
    text = str(renderer.encoder.tokenizer.decode([index]))
    return name if not text or "\ufffd" in text else text.replace("\n", LINE_END).replace("\t", "→")


def _colour(weight: float) -> str:
    return "bright_black" if weight == 0 else "yellow" if weight < 1 else "green" if weight == 1 else "magenta"


def _formats(prepared: Prepared) -> Iterator[str]:
    for report in prepared.sources:
        if report.role == "train":
            yield f"{report.name}: read as {report.format}; template: {report.template or 'none used'}"


def _specials(prepared: Prepared) -> Iterator[str]:
    for report in prepared.sources:
        yield from (f"{report.name} ({report.role}): {text}" for text in [_per_row(report)] if text)


def _per_row(report: SourceReport) -> str:
    if not report.kept:
        return ""
    told = ", ".join(f"{name} {count / report.kept:.2f}" for name, count in sorted(report.specials.items()))
    return f"special tokens per row: {told or 'none'}; longest row: {report.longest:,} tokens"


def _grid(lines: list[list[str]]) -> Grid:
    grid = Grid(*lines[0], box=None, header_style="bold")
    for column in grid.columns[2:]:
        column.justify = "right"
    for line in lines[1:]:
        grid.add_row(*line)
    return grid
