"""Solved training rows before the prompts of a task."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tunewright.data import duplicates
from tunewright.data.demonstrations import bare, drawn
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Rows, Subject
from tunewright.models.generate import context_length

POOL = 1000
"""Training rows, taken at random, that demonstrations are drawn from."""


def shown(subject: Subject, record: Record, k: int, seed: str, field: str) -> list[Record]:
    """`k` rows of the pool for the record by `seed`, none asking what it asks. Raises `BadInput` where there are none."""
    own = bare(record)
    found = drawn(own, subject.pool, k, random.Random(f"{seed} {duplicates.content(own)}"))
    if not found:
        raise BadInput(
            "no training row can stand as a demonstration", field=field, expected="training rows that ask something else",
        )  # fmt: skip
    return found


def check_room(subject: Subject, rows: Rows, asked: Sequence[Record], hint: str) -> None:
    """Raises `BadInput` where one of these records of `rows` is longer than the model's context."""
    longest = max(len(one.ids) for one in rows.rendered(asked))
    room = context_length(subject.policy.model) or longest
    if longest > room:
        raise BadInput(
            "prompts with demonstrations are longer than the model's context", field="k", found=longest,
            expected=f"at most {room} tokens", hint=hint,
        )  # fmt: skip
