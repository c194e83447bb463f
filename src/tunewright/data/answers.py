"""Which answers of a training record become sequences: the one to learn, both of a pair, or every judged one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tunewright.catalog import Need
from tunewright.data.lines import FaultyRow
from tunewright.data.records import Record

CHOSEN, LABEL, MISMATCHED = "chosen", "label", "mismatched"
"""Sequence columns: 1 for the better answer of a pair and 0 for the worse; 1 for an answer judged good and 0 for bad; 1
for a prompt with the answer of another row."""


@dataclass(frozen=True)
class Answers:
    """How training records become sequences.

    `learned`: the answer to learn (the better one of a pair; rows judged bad are left out). `pairs`: the better answer,
    then the worse one, side by side, with the column `chosen`. `labels`: every judged answer, those of a pair too, with
    the column `label`. `mismatched`: each judged answer, then the same prompt with the answer of the row before, side by
    side, with the column `mismatched`.
    """

    kind: Literal["learned", "pairs", "labels", "mismatched"] = "learned"

    @staticmethod
    def wanted(needs: Collection[Need]) -> Answers:
        """As the needs of an objective ask."""
        for kind in ("pairs", "mismatched", "labels"):
            if kind in needs:
                return Answers(kind)
        return Answers()

    @property
    def together(self) -> int:
        """Sequences that stay together."""
        return 2 if self.kind in ("pairs", "mismatched") else 1

    def left_out(self, record: Record) -> bool:
        """Whether the record has no answer to use: judged bad, where only good ones are learned."""
        return record.label is False and self.kind == "learned"

    def of(self, record: Record, before: Record) -> list[tuple[Record, Mapping[str, float]]]:
        """The records to render, each with its columns; `before` is another row, whose answer is a mismatched one.

        Raises `BadInput` naming the row: for one that is no pair, was not judged, or has no row beside it.
        """
        if self.kind == "learned":
            return [(record, {})]
        worse = None if record.rejected is None else replace(record, turns=record.rejected, rejected=None)
        if self.kind == "pairs":
            if worse is None:
                raise _fault(record, "not a pair of answers", "a better and a worse answer (prompt, chosen, rejected)")
            return [(record, {CHOSEN: 1.0}), (worse, {CHOSEN: 0.0})]
        if worse is None and not isinstance(record.label, bool):
            raise _fault(record, "the answer was not judged", "a label true or false (prompt, completion, label)")
        judged = [(record, 1.0), (worse, 0.0)] if worse is not None else [(record, float(bool(record.label)))]
        if self.kind == "labels":
            return [(one, {LABEL: label}) for one, label in judged]
        if before is record:
            raise _fault(record, "no other answer stands beside it", "at least two rows")
        unit: list[tuple[Record, Mapping[str, float]]] = []
        for one, label in judged:
            other = before.turns if label or before.rejected is None else before.rejected
            unit += [
                (one, {LABEL: label, MISMATCHED: 0.0}),
                (replace(one, turns=(*one.prompt, other[-1])), {LABEL: label, MISMATCHED: 1.0}),
            ]
        return unit


def _fault(record: Record, message: str, expected: str) -> FaultyRow:
    return FaultyRow(
        message,
        file=record.file,
        line=record.line,
        expected=expected,
        hint="The objective of this recipe learns from those.",
    )
