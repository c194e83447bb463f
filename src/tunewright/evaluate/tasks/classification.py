"""Accuracy over a label set, by likelihood."""

from __future__ import annotations

from typing import ClassVar

from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Rows, Scores, Subject, Task, answered
from tunewright.evaluate.likelihood import choice_logprobs
from tunewright.evaluate.tasks._choices import by_likelihood


class Classification(Task):
    """Accuracy: the share of rows whose true label is the likeliest of all labels as the answer.

    p(label) = exp(log p(label | prompt)) / Sum over labels; the labels are those that occur in the rows. All rows
    are scored; calibration is measured on the probability of the chosen label.
    """

    name: ClassVar[str] = "classification"

    def score(self, subject: Subject) -> Scores:
        """1 or 0 per row. Raises `BadInput` for a row without a label, and when all rows have the same."""
        known = label_set(self.all_rows(subject), subject)
        rows = self.rows(subject)
        made = rows.rendered([_labelled(record, label) for record in rows.records for label in known])
        sequences = [[one.ids for one in made[n : n + len(known)]] for n in range(0, len(made), len(known))]
        logprobs = choice_logprobs(subject.policy, sequences, subject.batch_tokens)
        truths = [known.index(str(record.label)) for record in rows.records]
        return by_likelihood(self, rows, logprobs, truths, [known] * len(rows))


def label_set(rows: Rows, subject: Subject) -> list[str]:
    """Every label of the rows and of the training examples, sorted."""
    for record in rows.records:
        if not isinstance(record.label, str):
            raise BadInput(
                "the row has no class", file=record.file or None, line=record.line or None, field="label",
                expected="rows of text and label", hint="Use the task 'classification' on classification data only.",
            )  # fmt: skip
    labels = {record.label for record in (*rows.records, *subject.examples) if isinstance(record.label, str)}
    if len(labels) < 2:
        raise BadInput(
            "all rows have the same label", field="label", found=next(iter(labels)), expected="at least two labels"
        )
    return sorted(labels)


def _labelled(record: Record, label: str) -> Record:
    # What stands around the label in the answer (a leading space) stays.
    return answered(record, record.answer.replace(str(record.label), label, 1))
