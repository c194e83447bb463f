"""Which answers of a training record become sequences: the one to learn, both of a pair, or every judged one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tunewright.catalog import Need
from tunewright.data.lines import FaultyRow
from tunewright.data.records import Record

CHOSEN, LABEL = "chosen", "label"
"""Sequence columns: 1 for the better answer of a pair and 0 for the worse; 1 for an answer judged good and 0 for bad."""


@dataclass(frozen=True)
class Answers:
    """How training records become sequences.

    `learned`: the answer to learn (the better one of a pair; rows judged bad are left out). `pairs`: the better answer,
    then the worse one, side by side, with the column `chosen`. `labels`: every judged answer, those of a pair too, with
    the column `label`.
    """

    kind: Literal["learned", "pairs", "labels"] = "learned"

    @staticmethod
    def wanted(needs: Collection[Need]) -> Answers:
        """As the needs of an objective ask."""
        return Answers("pairs" if "pairs" in needs else "labels" if "labels" in needs else "learned")

    @property
    def together(self) -> int:
        """Sequences that stay together."""
        return 2 if self.kind == "pairs" else 1

    def left_out(self, record: Record) -> bool:
        """Whether the record has no answer to use: judged bad, where only good ones are learned."""
        return record.label is False and self.kind == "learned"

    def of(self, record: Record) -> list[tuple[Record, Mapping[str, float]]]:
        """The records to render, each with its columns.

        Raises `BadInput` naming the row: for one that is no pair, or was not judged.
        """
        if self.kind == "learned":
            return [(record, {})]
        worse = None if record.rejected is None else replace(record, turns=record.rejected, rejected=None)
        if self.kind == "pairs":
            if worse is None:
                raise _fault(record, "not a pair of answers", "a better and a worse answer (prompt, chosen, rejected)")
            return [(record, {CHOSEN: 1.0}), (worse, {CHOSEN: 0.0})]
        if worse is not None:
            return [(record, {LABEL: 1.0}), (worse, {LABEL: 0.0})]
        if not isinstance(record.label, bool):
            raise _fault(record, "the answer was not judged", "a label true or false (prompt, completion, label)")
        return [(record, {LABEL: float(record.label)})]


def _fault(record: Record, message: str, expected: str) -> FaultyRow:
    return FaultyRow(
        message,
        file=record.file,
        line=record.line,
        expected=expected,
        hint="The objective of this recipe learns from those.",
    )
