"""From the records of every source to tables of tokens, with an account of every row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

from tunewright.data import cache, duplicates, lengths
from tunewright.data.answers import Answers
from tunewright.data.columns import Columns
from tunewright.data.completing import Completion, changed, gathers
from tunewright.data.counts import SourceReport
from tunewright.data.lines import FaultyRow
from tunewright.data.parts import Part
from tunewright.data.progress import Progress
from tunewright.data.reading import Reader
from tunewright.data.records import Record
from tunewright.data.table import TableWriter
from tunewright.data.templates import Rendered, Renderer

BATCH = 512
"""Records that are tokenised at once."""


class Tabulation:
    """One preparation: evaluation rows first, so that training rows among them can be removed."""

    def __init__(
        self,
        listed: Sequence[Part],
        made_by: Sequence[Renderer],
        limit: int | None,
        columns: Columns,
        answers: Answers,
        completion: Completion,
        folder: Path,
        told: Progress,
    ) -> None:
        self.listed, self.renderers, self.limit, self.folder, self.told = listed, made_by, limit, folder, told
        self.columns, self.answers, self.completion = columns, answers, completion
        self.reports = [SourceReport(part.number, part.name, part.source.path, part.role) for part in listed]
        self.tables = {role: TableWriter(folder / role) for role in ("train", "eval")}
        self.together = answers.together
        self.train_seen: set[int] = set()
        self.eval_seen: set[int] = set()

    def run(self) -> None:
        pairs = list(zip(self.listed, self.reports, strict=True))
        evals = {n: self._counted(part, report) for n, (part, report) in enumerate(pairs) if _own_eval(part)}
        trains = {n: self._sided(part, report) for n, (part, report) in enumerate(pairs) if part.role == "train"}
        if any(gathers(part.source) for part in self.listed):
            evals, trains = self._gathered(evals, trains)
        with (self.folder / "eval.jsonl").open("w", encoding="utf-8") as self.eval_records:
            for n, records in evals.items():
                part, report = pairs[n]
                self._take(part, records, report, self._keep_eval)
            for n, sided in trains.items():
                self._train(*pairs[n], sided)
        self.tables["train"].close(self.columns.whole, self.together or 1)
        self.tables["eval"].close()
        (self.folder / "counts.json").write_text(json.dumps([report.plain() for report in self.reports]))
        (self.folder / "held.json").write_text(json.dumps(sorted(self.eval_seen)))
        with (self.folder / "pool.jsonl").open("w", encoding="utf-8") as pool:
            pool.writelines(cache.packed(record) + "\n" for rows in self.completion.pools.values() for record in rows)

    def _gathered(
        self, evals: Mapping[int, Iterator[Record]], trains: Mapping[int, Iterator[tuple[Record, bool]]]
    ) -> tuple[dict[int, Iterator[Record]], dict[int, Iterator[tuple[Record, bool]]]]:
        """The same records, all read: which are held out must be known before any stands in another's prompt."""
        held = {n: list(records) for n, records in evals.items()}
        self.eval_seen.update(duplicates.content(record) for records in held.values() for record in records)
        sided: dict[int, list[tuple[Record, bool]]] = {}
        for n, stream in trains.items():
            part, each = self.listed[n], list(stream)
            sided[n] = each
            self.eval_seen.update(duplicates.content(record) for record, is_held in each if is_held)
            if gathers(part.source):
                self.completion.pools[part.number] = [record for record, is_held in each if not is_held]
        return {n: iter(each) for n, each in held.items()}, {n: iter(each) for n, each in sided.items()}

    def _train(self, part: Part, report: SourceReport, sided: Iterator[tuple[Record, bool]]) -> None:
        held = self._held(part)
        if held is None:
            self._take(part, (record for record, _ in sided), report, self._keep_train)
            return
        for batch in _batches(sided):
            for side, target, keep in ((False, report, self._keep_train), (True, held, self._keep_eval)):
                self._take(part, iter([record for record, is_held in batch if is_held is side]), target, keep)
        held.format = report.format

    def _held(self, part: Part) -> SourceReport | None:
        """The account of the rows that are split off a training part, if any are."""
        both = zip(self.reports, self.listed, strict=True)
        return next((report for report, other in both if other.split and other.number == part.number), None)

    def _sided(self, part: Part, report: SourceReport) -> Iterator[tuple[Record, bool]]:
        """The new records of a training part, and whether each is held out."""
        new = self._new(self._counted(part, report), report, part.source.duplicates == "keep")
        held = self._held(part)
        if held is None:
            yield from ((record, False) for record in new)
            return
        for record, is_held in duplicates.split(new, part.source.split):
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
        for read in _batches(records):
            batch = self._completed(part, report, read)
            if not batch:
                continue
            report.template = report.template or renderer.template(batch[0])
            answers = self.answers if report.role == "train" else Answers()
            others = [before or batch[-1], *batch[:-1]]
            units = [answers.of(record, other) for record, other in zip(batch, others, strict=True)]
            before = batch[-1]
            if answers.together is None:
                self._evenly(batch, units)
            rendered = iter(renderer.render_many([one for unit in units for one, _ in unit]))
            for record, unit in zip(batch, units, strict=True):
                self._add(
                    part, report, [(one, columns, next(rendered)) for one, columns in unit], answers, keep, record
                )

    def _evenly(self, batch: Sequence[Record], units: Sequence[Sequence[object]]) -> None:
        """Raises `BadInput` naming a row with another number of answers than the first one has."""
        for record, unit in zip(batch, units, strict=True):
            self.together = self.together or len(unit)
            if len(unit) != self.together:
                raise FaultyRow(
                    "another number of answers than in the first row", file=record.file, line=record.line,
                    field="answers", found=len(unit), expected=str(self.together),
                    hint="Answers are compared in groups of one size.",
                )  # fmt: skip

    def _completed(self, part: Part, report: SourceReport, read: list[Record]) -> list[Record]:
        """The records in the place of those read. Each counts as a row; a row in whose place none stands is left out."""
        if not changed(part.source):
            return read
        if report.role == "eval":
            self.eval_seen.update(duplicates.content(record) for record in read)
        made = self.completion.of(part.source, part.number, read, report.role, self.renderers[part.number].mode)
        report.rows += sum(max(0, len(each) - 1) for each in made)
        report.left_out += sum(not each for each in made)
        return [record for each in made for record in each]

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
        if answers.together != 1 and any(cut is None or not cut.trained for *_, cut in fitting):
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


def _own_eval(part: Part) -> bool:
    """Whether a part reads evaluation rows of its own."""
    return part.role == "eval" and not part.split


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(items, BATCH)):
        yield batch
