"""Greedy answers to the prompts of records."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.data.records import Record
from tunewright.evaluate.base import Rows, Subject
from tunewright.evaluate.tasks._generated import longest_answer
from tunewright.models.generate import Answer, generate


def greedy(subject: Subject, rows: Rows, records: Sequence[Record], new: int | None = None) -> list[Answer]:
    """One answer per record, of at most `new` tokens (default one and a half times the longest reference)."""
    prompts = [list(rows.renderer(record).prompt(record)) for record in records]
    decoding = subject.decoding(prompts, new or longest_answer(rows))
    return generate(subject.policy, subject.tokenizer, prompts, decoding, 8 * subject.batch_tokens)
