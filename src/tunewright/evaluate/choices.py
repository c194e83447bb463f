"""The answers that a row chooses among, and what probability the model gives each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from tunewright.data.records import Record
from tunewright.evaluate.base import Floats, Rows, Subject, answered
from tunewright.evaluate.likelihood import choice_logprobs

MOST = 20
"""Different answers up to which rows are taken to choose among the answers of all of them."""

REPEATED = 4
"""Rows per different answer from which on those answers are a set to choose from."""

COLUMN = "choices"


@dataclass(frozen=True)
class Choices:
    """`answers` [rows][choices] are whole answers, `truths` [rows] the place of the right one."""

    answers: Sequence[Sequence[str]]
    truths: Sequence[int]

    def probabilities(self, subject: Subject, rows: Rows, records: Sequence[Record]) -> list[Floats]:
        """p(choice | prompt) of every record, a softmax of log p(whole answer | prompt) over its choices.

        `records` are those of `rows`, with other prompts perhaps.
        """
        pairs = zip(records, self.answers, strict=True)
        made = iter(rows.rendered([answered(record, choice) for record, each in pairs for choice in each]))
        sequences = [[next(made).ids for _ in each] for each in self.answers]
        return [softmax(each) for each in choice_logprobs(subject.policy, sequences, subject.batch_tokens)]

    def brier(self, probabilities: Sequence[Floats]) -> Floats:
        """Sum over choices of (p - [choice is right])^2 per row [rows], 0 to 2."""
        return np.array([((p - np.eye(len(p))[t]) ** 2).sum() for p, t in zip(probabilities, self.truths, strict=True)])


def choices_of(rows: Rows, every: Rows) -> Choices | None:
    """What `rows` choose among, or None where their answers are free.

    By turns: the label set of classification rows; the texts in the rows' column `choices`; the answers of `every`
    row, where there are at most `MOST` different ones and each stands in `REPEATED` rows on average.
    """
    records = rows.records
    labels = sorted({str(one.label) for one in every.records if isinstance(one.label, str)})
    if len(labels) > 1 and all(isinstance(one.label, str) for one in records):
        made = [[one.answer.replace(str(one.label), label, 1) for label in labels] for one in records]
        return Choices(made, [labels.index(str(one.label)) for one in records])
    listed = [_listed(one) for one in records]
    if all(one.answer in texts for one, texts in zip(records, listed, strict=True)):
        return Choices(listed, [texts.index(one.answer) for one, texts in zip(records, listed, strict=True)])
    known = sorted({one.answer for one in every.records})
    few = 2 <= len(known) <= MOST and len(known) * REPEATED <= len(every)
    if few and {one.answer for one in records} <= set(known):
        return Choices([known] * len(records), [known.index(one.answer) for one in records])
    return None


def _listed(record: Record) -> list[str]:
    found = record.columns.get(COLUMN)
    found = found.get("text") if isinstance(found, dict) else found
    leading = record.answer[: len(record.answer) - len(record.answer.lstrip())]
    return [leading + str(each) for each in found] if isinstance(found, list | tuple) else []
