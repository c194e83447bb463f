"""Random tables of sequences with loss weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.data.answers import CHOSEN, LABEL, MISMATCHED, NUMBER, REWARD, REWORDED, Answers
from tunewright.data.batches import Plan, Share
from tunewright.data.spelling import Spelled
from tunewright.data.table import Table
from tunewright.testing.models import VOCABULARY

GROUP = 4
"""Answers of a prompt, where they stand in groups."""


def random_table(
    lengths: Sequence[int] = (5, 13, 9, 7, 12, 6, 11, 8),
    *,
    sources: int = 2,
    seed: int = 0,
    graded: bool = True,
    answers: Answers | None = None,
    columns: Collection[str] = (),
) -> Table:
    """Sequences of random tokens, the first third of each a prompt without weight.

    `graded` draws the other weights from [0.25, 2] with every fifth zero; otherwise they are 1. `answers` says how the
    sequences stand together (two wordings have the answer of the longer one); the numbers of further `columns` are drawn
    from [0, 1).
    """
    together = (answers.together or GROUP) if answers else 1
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(3, VOCABULARY, starts[-1]).astype(np.int32)
    weights = np.ones(starts[-1], dtype=np.float32)
    if graded:
        weights = rng.uniform(0.25, 2.0, starts[-1]).astype(np.float32)
        weights[::5] = 0.0
    prompts = np.asarray([max(1, length // 3) for length in lengths])
    for start, prompt in zip(starts, prompts, strict=False):
        weights[start : start + prompt] = 0.0
        weights[start + prompt] = 1.0
    count = len(lengths)
    if answers and answers.kind == "wordings":
        flat, starts = _twice_answered(starts, prompts)
        ids, weights = ids[flat], weights[flat]
    return Table(
        ids=ids,
        weights=weights,
        starts=starts,
        columns={
            "source": np.arange(count) // together % sources,
            "file": np.zeros(count, dtype=np.int64),
            "line": np.arange(1, count + 1),
            "prompt": prompts,
            **_judged(answers, count),
            **{name: rng.random(count) for name in sorted(columns)},
        },
        files=("rows.jsonl",),
        together=together,
        speller=_spelled,
    )


def _spelled(ids: Sequence[int]) -> Spelled:
    """A character per token, a line's end for every seventh of the vocabulary."""
    text = "".join("\n" if index % 7 == 0 else chr(0x100 + index) for index in ids)
    return Spelled(text, [(at, at + 1) for at in range(len(ids))])


def _twice_answered(
    starts: NDArray[np.int64], prompts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which tokens make up sequences that have, two by two, the answer of the longer one; and where these begin."""
    made = []
    for row, prompt in enumerate(prompts):
        longer = max(row - row % 2, row - row % 2 + 1, key=lambda one: int(starts[one + 1] - starts[one]))
        own = np.arange(starts[row], starts[row] + prompt)
        made.append(np.concatenate([own, np.arange(starts[longer] + prompts[longer], starts[longer + 1])]))
    return np.concatenate(made), np.cumsum([0, *map(len, made)])


def _judged(answers: Answers | None, count: int) -> dict[str, NDArray[np.generic]]:
    """The columns that tell the sequences of a unit apart, as the data's own are."""
    kind = answers.kind if answers else "learned"
    row = np.arange(count)
    if kind == "pairs":
        return {CHOSEN: 1.0 - row % 2}
    if kind == "labels":
        return {LABEL: row % 2 * 1.0}
    if kind == "wordings":
        return {REWORDED: 1.0 - row % 2}
    if kind == "groups":
        return {REWARD: row * 7 % 5 / 2, NUMBER: row % GROUP * 1.0}
    return {LABEL: row // 2 % 2 * 1.0, MISMATCHED: row % 2 * 1.0} if kind == "mismatched" else {}


def plan_of(table: Table, steps: int = 8, tokens_per_step: int = 24, seed: int = 0) -> Plan:
    """A plan of `steps` steps over a table, each source drawn once per epoch."""
    sources = np.asarray(table.columns["source"], dtype=np.int64)[:: table.together]
    shares = (Share(),) * (int(sources.max()) + 1)
    return Plan(table.lengths.reshape(-1, table.together).sum(1), sources, shares, tokens_per_step, seed, steps=steps)
