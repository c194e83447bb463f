"""The whole way of the data: from a recipe to tokenised tables, with an account of every row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

from tunewright.data import cache, cautions, duplicates, lengths
from tunewright.data.answers import Answers
from tunewright.data.columns import Columns
from tunewright.data.counts import SourceReport, over_budget
from tunewright.data.files import hashed
from tunewright.data.parts import Part, parts
from tunewright.data.progress import Progress, progress
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.table import Table, TableWriter
from tunewright.data.templates import Rendered, Renderer, renderers
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

BATCH = 512
"""Records that are tokenised at once."""


@dataclass(frozen=True)
class Prepared:
    """Training and evaluation data, tokenised, and what became of every row.

    Sources are numbered as in `Record.source` and the table's `source` column: the recipe's sources in order, then
    the sources under `data.eval`. `names` and `renderers` hold one item per number. `eval_records[i]` is the record of
    row i of `eval`. `train` holds the columns that the recipe's methods read. `sources` holds one report per source and role; `hashes` the SHA-256 of each file read; `limit`
    the longest sequence in tokens (None: no limit); `refused` why a run on this data does not start (see `prepare`).
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


def prepare(
    recipe: Recipe,
    tokenizer: Any,
    context: int | None = None,
    cache_dir: Path | None = None,
    *,
    vocabulary: int | None = None,
    strict: bool = True,
) -> Prepared:
    """Reads, converts, splits, tokenises and cuts the recipe's data, or finds all that done before.

    `context` is the longest sequence the model takes, `vocabulary` the rows of its embedding. Raises `BadInput` for the
    first faulty row, and for data that no run can use: nothing to train on, nothing held out, too many rows lost to the
    limit, tokens the model does not know; with `strict` unset the latter are told in `refused` instead.
    """
    limit = _limit(recipe, context)
    listed = parts(recipe)
    numbered = {part.number: part for part in reversed(listed)}
    made_by = renderers(tokenizer, [numbered[number].source for number in sorted(numbered)])
    found = hashed(recipe, listed)
    answers = Answers.wanted(recipe.objective.needs)
    name = cache.key([
        [[part.number, part.role, part.options()] for part in listed], found.digests, limit, made_by[0].encoder.digest,
        len(recipe.data.sources), list(recipe.columns), answers.kind,
    ])  # fmt: skip
    fresh: list[bool] = []

    def make(folder: Path) -> None:
        fresh.append(True)
        with progress("Preparing data", found.rows) as told:
            _Work(listed, made_by, limit, Columns(recipe.columns), answers, folder, told).run()

    root = cache_dir / "data" if cache_dir else cache.root()
    with cache.kept(name, make, root) if recipe.data.cache else cache.passing(make) as folder:
        train, held = Table.load(folder / "train"), Table.load(folder / "eval")
        with (folder / "eval.jsonl").open(encoding="utf-8") as stream:
            records = [cache.unpacked(line) for line in stream]
        reports = [SourceReport(**plain) for plain in json.loads((folder / "counts.json").read_text())]
    for report, part in zip(reports, listed, strict=True):
        report.name = part.name
    cautions.unread(recipe, listed, reports)
    refused = tuple(_refusals(recipe, reports, listed, limit, vocabulary))
    if refused and strict:
        raise refused[0]
    return Prepared(
        train=train, eval=held, eval_records=records, sources=reports,
        names=tuple(numbered[number].name for number in sorted(numbered)),
        warnings=cautions.warnings(reports, made_by, tokenizer, limit), hashes=found.digests, renderers=made_by,
        limit=limit, reused=not fresh, refused=refused,
    )  # fmt: skip


def _limit(recipe: Recipe, context: int | None) -> int | None:
    wanted = recipe.data.max_length
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


class _Work:
    """One preparation: evaluation rows first, so that training rows among them can be removed."""

    def __init__(
        self,
        listed: Sequence[Part],
        made_by: Sequence[Renderer],
        limit: int | None,
        columns: Columns,
        answers: Answers,
        folder: Path,
        told: Progress,
    ) -> None:
        self.listed, self.renderers, self.limit, self.folder, self.told = listed, made_by, limit, folder, told
        self.columns, self.answers = columns, answers
        self.reports = [SourceReport(part.number, part.name, part.source.path, part.role) for part in listed]
        self.tables = {role: TableWriter(folder / role) for role in ("train", "eval")}
        self.train_seen: set[int] = set()
        self.eval_seen: set[int] = set()

    def run(self) -> None:
        pairs = list(zip(self.listed, self.reports, strict=True))
        with (self.folder / "eval.jsonl").open("w", encoding="utf-8") as self.eval_records:
            for part, report in pairs:
                if part.role == "eval" and not part.split:
                    self._take(part, self._counted(part, report), report, self._keep_eval)
            for part, report in pairs:
                if part.role == "train":
                    self._train(part, report)
        self.tables["train"].close(self.columns.whole, self.answers.together)
        self.tables["eval"].close()
        (self.folder / "counts.json").write_text(json.dumps([report.plain() for report in self.reports]))

    def _train(self, part: Part, report: SourceReport) -> None:
        held = next(
            (own for own, r in zip(self.reports, self.listed, strict=True) if r.split and r.number == part.number), None
        )
        records = self._counted(part, report)
        if held is None:
            self._take(part, self._new(records, report, part.source.duplicates == "keep"), report, self._keep_train)
            return
        for batch in _batches(self._sides(records, part, report, held)):
            for side, target, keep in ((False, report, self._keep_train), (True, held, self._keep_eval)):
                self._take(part, iter([record for record, is_held in batch if is_held is side]), target, keep)
        held.format = report.format

    def _sides(
        self, records: Iterator[Record], part: Part, report: SourceReport, held: SourceReport
    ) -> Iterator[tuple[Record, bool]]:
        for record, is_held in duplicates.split(
            self._new(records, report, part.source.duplicates == "keep"), part.source.split
        ):
            if is_held:
                report.held_out += 1
                held.rows += 1
            yield record, is_held

    def _counted(self, part: Part, report: SourceReport) -> Iterator[Record]:
        """The source's records without those that have no answer to use; only good ones are evaluated."""
        answers = self.answers if part.role == "train" and not part.split else Answers()
        reader = Reader(part.source, part.origin, part.place, part.number)
        for record in reader.records():
            report.rows += 1
            self.told.advance()
            if answers.left_out(record):
                report.left_out += 1
            else:
                yield record
        report.rows += reader.left_out
        report.left_out += reader.left_out
        report.format = reader.format.title if reader.format else ""

    def _new(self, records: Iterator[Record], report: SourceReport, keep: bool) -> Iterator[Record]:
        """The records that are neither in the evaluation data nor a repetition."""
        for record in records:
            digest = duplicates.content(record)
            if digest in self.train_seen and not keep:
                report.duplicates += 1
            elif digest in self.eval_seen:
                report.overlap += 1
            else:
                self.train_seen.add(digest)
                yield record

    def _take(
        self, part: Part, records: Iterator[Record], report: SourceReport, keep: Callable[[Record], None]
    ) -> None:
        """Tokenises records and adds those that fit to the table of their role."""
        renderer, before = self.renderers[part.number], cast(Record | None, None)
        for batch in _batches(records):
            report.template = report.template or renderer.template(batch[0])
            answers = self.answers if report.role == "train" else Answers()
            others = [before or batch[-1], *batch[:-1]]
            units = [answers.of(record, other) for record, other in zip(batch, others, strict=True)]
            before = batch[-1]
            rendered = iter(renderer.render_many([one for unit in units for one, _ in unit]))
            for record, unit in zip(batch, units, strict=True):
                self._add(
                    part, report, [(one, columns, next(rendered)) for one, columns in unit], answers, keep, record
                )

    def _add(
        self,
        part: Part,
        report: SourceReport,
        unit: Sequence[tuple[Record, Mapping[str, float], Rendered]],
        answers: Answers,
        keep: Callable[[Record], None],
        record: Record,
    ) -> None:
        """Adds the sequences of a record that fit; of those that stay together all or none. Counts its first one."""
        renderer, fitting = self.renderers[part.number], []
        for one, columns, whole in unit:
            single: Mapping[str, float] = columns
            if report.role == "train":
                named, many = self.columns.of(one, len(whole.ids))
                single = {**columns, **named}
                whole = replace(whole, columns=many) if many else whole
            if len(whole.ids) > report.longest:
                report.longest, report.longest_at = len(whole.ids), one.where
            cut = lengths.shortened(whole, self.limit, part.source.truncation, renderer.encoder.prefix)
            fitting.append((one, single, whole, cut))
        if answers.together > 1 and any(cut is None or not cut.trained for *_, cut in fitting):
            fitting = [(one, single, whole, None) for one, single, whole, _ in fitting]
        for index, (one, single, whole, cut) in enumerate(fitting):
            counted = report if index == 0 else SourceReport(part.number, part.name, part.source.path, part.role)
            if lengths.account(counted, one, whole, cut, renderer, self.limit):
                assert cut is not None
                report.largest_id = max(report.largest_id, counted.largest_id)
                self.tables[report.role].add(
                    cut.ids, cut.weights, source=part.number, file=one.file, line=one.line, prompt=cut.prompt_length,
                    columns=single, token_columns=cut.columns,
                )  # fmt: skip
                if index == 0:
                    keep(record)

    def _keep_train(self, record: Record) -> None:
        """Training records live in the table alone."""

    def _keep_eval(self, record: Record) -> None:
        self.eval_seen.add(duplicates.content(record))
        self.eval_records.write(cache.packed(record) + "\n")


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(items, BATCH)):
        yield batch
