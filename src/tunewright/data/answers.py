"""Which answers of a training record become sequences: the one to learn, both of a pair, every judged one, a group with
rewards, or one under two wordings of its prompt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tunewright.catalog import Need
from tunewright.data.lines import FaultyRow
from tunewright.data.records import Record, Scored

CHOSEN, LABEL, MISMATCHED, REWORDED = "chosen", "label", "mismatched", "reworded"
"""Sequence columns: 1 for the better answer of a pair and 0 for the worse; 1 for an answer judged good and 0 for bad; 1
for a prompt with the answer of another row; 1 for the prompt of the row and 0 for its reference wording."""

REWARD, NUMBER = "answer_reward", "answer_number"
"""Sequence columns of a group: what an answer is worth, and which of its prompt's answers it is, from 0 on."""

OWN = (CHOSEN, LABEL, MISMATCHED, REWORDED, REWARD, NUMBER)
"""The columns that are not read from the rows."""

REFERENCE_PROMPT = "reference_prompt"
"""The column of a row that holds its last prompt turn in the reference wording."""


@dataclass(frozen=True)
class Answers:
    """How training records become sequences.

    `learned`: the answer to learn (the better one of a pair; rows judged bad are left out). `pairs`: the better answer,
    then the worse one, side by side, with the column `chosen`. `labels`: every judged answer, those of a pair too, with
    the column `label`. `mismatched`: each judged answer, then the same prompt with the answer of the row before, side by
    side, with the column `mismatched`. `wordings`: the answer after its prompt, then after the prompt in the reference
    wording, side by side, with the column `reworded`. `groups`: all answers of a row (as many in every row), with the
    columns `answer_reward` and `answer_number`; those of a pair are worth 1 and 0.
    """

    kind: Literal["learned", "pairs", "labels", "mismatched", "wordings", "groups"] = "learned"

    @staticmethod
    def wanted(needs: Collection[Need]) -> Answers:
        """As the needs of an objective ask."""
        for kind in ("pairs", "mismatched", "labels", "wordings", "groups"):
            if kind in needs:
                return Answers(kind)
        return Answers()

    @property
    def together(self) -> int | None:
        """Sequences that stay together; None where it is as many as a row has answers."""
        if self.kind == "groups":
            return None
        return 2 if self.kind in ("pairs", "mismatched", "wordings") else 1

    def left_out(self, record: Record) -> bool:
        """Whether the record has no answer to use: judged bad, where only good ones are learned."""
        return record.label is False and self.kind in ("learned", "wordings")

    def of(self, record: Record, before: Record) -> list[tuple[Record, Mapping[str, float]]]:
        """The records to render, each with its columns; `before` is another row, whose answer is a mismatched one.

        Raises `BadInput` naming the row: for one that is no pair or group, was not judged, has no reference wording, or
        no row beside it.
        """
        if self.kind == "learned":
            return [(record, {})]
        if self.kind == "wordings":
            return [(record, {REWORDED: 1.0}), (_referring(record), {REWORDED: 0.0})]
        # Each of the two is the other's rejected one: the renderer trains alike on both.
        worse = None if record.rejected is None else replace(record, turns=record.rejected, rejected=record.turns)
        if self.kind == "groups":
            pair = ((record.turns, 1.0), (record.rejected, 0.0)) if record.rejected is not None else ()
            return [
                (replace(record, turns=turns, rejected=record.turns), {REWARD: reward, NUMBER: float(number)})
                for number, (turns, reward) in enumerate(_group(record, record.scored or pair))
            ]
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


def _group(record: Record, answers: Sequence[Scored]) -> Sequence[Scored]:
    if not answers:
        raise _fault(record, "not a group of answers", "several answers with rewards (prompt, answers, rewards)")
    return answers


def _referring(record: Record) -> Record:
    text = record.columns.get(REFERENCE_PROMPT)
    if not record.prompt or not isinstance(text, str) or not text:
        raise _fault(
            record, "the prompt has no reference wording", f"a prompt, and the same in the column '{REFERENCE_PROMPT}'"
        )
    return replace(record, turns=(*record.turns[:-2], replace(record.turns[-2], content=text), record.turns[-1]))


def _fault(record: Record, message: str, expected: str) -> FaultyRow:
    return FaultyRow(
        message,
        file=record.file,
        line=record.line,
        expected=expected,
        hint="The objective of this recipe learns from those.",
    )
