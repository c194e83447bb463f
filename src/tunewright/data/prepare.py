"""The whole way of the data: from a recipe to tokenised tables, with an account of every row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunewright.data import cache, cautions
from tunewright.data.answers import Answers
from tunewright.data.columns import Columns
from tunewright.data.completing import Completion, asked
from tunewright.data.counts import SourceReport, over_budget
from tunewright.data.files import hashed
from tunewright.data.formats.base import Writer
from tunewright.data.parts import Part, parts
from tunewright.data.progress import progress
from tunewright.data.records import Record
from tunewright.data.table import Table
from tunewright.data.tabulating import Tabulation
from tunewright.data.templates import Renderer, renderers
from tunewright.errors import BadInput
from tunewright.recipe import Recipe


@dataclass(frozen=True)
class Prepared:
    """Training and evaluation data, tokenised, and what became of every row.

    Sources are numbered as in `Record.source` and the table's `source` column: the recipe's sources in order, then
    the sources under `data.eval`. `names` and `renderers` hold one item per number. `eval_records[i]` is the record of
    row i of `eval`. `train` holds the columns that the recipe's methods read. `sources` holds one report per source and role; `hashes` the SHA-256 of each file read; `limit`
    the longest sequence in tokens (None: no limit); `refused` why a run on this data does not start (see `prepare`).
    `held` are the contents (`duplicates.content`) of the evaluation rows as they were read; `completion` completes
    further rows as these were.
    """

    train: Table
    eval: Table
    eval_records: list[Record]
    sources: list[SourceReport]
    names: tuple[str, ...]
    warnings: list[str]
    hashes: dict[str, str]
    renderers: tuple[Renderer, ...]
    limit: int | None
    reused: bool
    refused: tuple[BadInput, ...] = ()
    held: frozenset[int] = frozenset()
    completion: Completion = field(default_factory=Completion)


def prepare(
    recipe: Recipe,
    tokenizer: Any,
    context: int | None = None,
    cache_dir: Path | None = None,
    *,
    vocabulary: int | None = None,
    strict: bool = True,
    writers: Mapping[str, Writer] = {},
) -> Prepared:
    """Reads, converts, splits, tokenises and cuts the recipe's data, or finds all that done before.

    `context` is the longest sequence the model takes, `vocabulary` the rows of its embedding, `writers` the models that
    formats ask. Raises `BadInput` for the
    first faulty row, and for data that no run can use: nothing to train on, nothing held out, too many rows lost to the
    limit, tokens the model does not know; with `strict` unset the latter are told in `refused` instead.
    """
    limit = _limit(recipe, context)
    listed = parts(recipe)
    numbered = {part.number: part for part in reversed(listed)}
    made_by = renderers(tokenizer, [numbered[number].source for number in sorted(numbered)])
    found = hashed(recipe, listed)
    answers = Answers.wanted(recipe.objective.needs)
    completion = Completion(recipe.data.sources, writers)
    written = {name: writers[name].digest for name in sorted(asked(recipe)) if name in writers}
    name = cache.key([
        [[part.number, part.role, part.options()] for part in listed], found.digests, limit, made_by[0].encoder.digest,
        len(recipe.data.sources), list(recipe.columns), answers.kind, written,
    ])  # fmt: skip
    fresh: list[bool] = []

    def make(folder: Path) -> None:
        fresh.append(True)
        with progress("Preparing data", found.rows) as told:
            Tabulation(listed, made_by, limit, Columns(recipe.columns), answers, completion, folder, told).run()

    root = cache_dir / "data" if cache_dir else cache.root()
    with cache.kept(name, make, root) if recipe.data.cache else cache.passing(make) as folder:
        train, held = Table.load(folder / "train"), Table.load(folder / "eval")
        with (folder / "eval.jsonl").open(encoding="utf-8") as stream:
            records = [cache.unpacked(line) for line in stream]
        reports = [SourceReport(**plain) for plain in json.loads((folder / "counts.json").read_text())]
        contents = frozenset(json.loads((folder / "held.json").read_text()))
        if not fresh:
            with (folder / "pool.jsonl").open(encoding="utf-8") as stream:
                for record in map(cache.unpacked, stream):
                    completion.pools.setdefault(record.source, []).append(record)
    for report, part in zip(reports, listed, strict=True):
        report.name = part.name
    cautions.unread(recipe, listed, reports)
    refused = tuple(_refusals(recipe, reports, listed, limit, vocabulary))
    if refused and strict:
        raise refused[0]
    return Prepared(
        train=replace(train, speller=made_by[0].encoder.spelled), eval=held, eval_records=records, sources=reports,
        names=tuple(numbered[number].name for number in sorted(numbered)),
        warnings=cautions.warnings(reports, made_by, tokenizer, limit), hashes=found.digests, renderers=made_by,
        limit=limit, reused=not fresh, refused=refused, held=contents, completion=completion,
    )  # fmt: skip


def _limit(recipe: Recipe, context: int | None) -> int | None:
    wanted = recipe.data.max_length
    if context is not None:
        context -= sum(method.positions for method in recipe.methods.values())
    if wanted is not None and context is not None and wanted > context:
        place = ("data", "max_length")
        raise BadInput(
            "longer than the model's context", file=recipe.origin.file, line=recipe.origin.lines.get(place),
            field="data.max_length", found=wanted, expected=f"at most {context}",
        )  # fmt: skip
    return wanted if wanted is not None else context


def _refusals(
    recipe: Recipe, reports: Sequence[SourceReport], listed: Sequence[Part], limit: int | None, vocabulary: int | None
) -> Iterator[BadInput]:
    """Why a run on this data does not start."""
    largest = max((report.largest_id for report in reports), default=0)
    if vocabulary is not None and largest >= vocabulary:
        yield BadInput(
            "the tokenizer's vocabulary is larger than the model's embedding", file=recipe.model.path,
            found=f"token id {largest}", expected=f"ids below {vocabulary}",
            hint="Take the tokenizer that belongs to the model, or name new tokens under 'model: {add_tokens: ...}'.",
        )  # fmt: skip
    for report, part in zip(reports, listed, strict=True):
        over = over_budget(report, part.source, limit)
        if over is not None:
            yield over
    for role, what in (("train", "to train on"), ("eval", "held out")):
        own = [report for report in reports if report.role == role]
        if not any(report.kept for report in own):
            yield _nothing(recipe, role, what, own)


def _nothing(recipe: Recipe, role: str, what: str, reports: Sequence[SourceReport]) -> BadInput:
    rows = sum(report.rows for report in reports)
    empty, overlap = sum(report.empty for report in reports), sum(report.overlap for report in reports)
    hint = "Every token has the loss weight 0." if empty == rows else "See 'tunewright data check'."
    if overlap:
        hint = f"{overlap:,} rows stand in the evaluation data too and were removed."
    if role == "eval" and rows == 0:
        hint = "A data set with a single prompt cannot be split: name evaluation rows under 'data: {eval: FILE}'."
    file = reports[0].path if reports else recipe.origin.file
    return BadInput(f"no row is left {what}", file=file, field=f"data.{role}", found=f"{rows:,} rows read", hint=hint)
