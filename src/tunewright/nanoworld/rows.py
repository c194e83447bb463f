"""Rows of a skill for one split: without duplicates, and the same for everybody who asks with the same seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count

from tunewright.nanoworld.seeds import SPLITS, split_of, stream
from tunewright.nanoworld.skill import Row, prompt, reply
from tunewright.nanoworld.skills import skills

PATIENCE = 3_000
"""Draws in a row without a new prompt after which a skill's supply counts as exhausted."""


def rows(skill: str, split: str, n: int, seed: int | str = 0, level: int | None = None) -> Iterator[Row]:
    """`n` rows of a skill whose prompts belong to the split (`train`, `tuning`, `test`; `pretrain` is the base's own).

    No prompt comes twice. Without `level`, the levels take turns, and one whose supply is used up drops out.
    Each row names its `skill` and `level`. The first rows of a longer list are the rows of a shorter one.
    """
    if split not in SPLITS:
        raise ValueError(f"split: found {split!r}, expected one of {', '.join(SPLITS)}")
    if skill not in skills():
        raise ValueError(f"skill: found {skill!r}, expected one of {', '.join(skills())}")
    levels = skills()[skill].levels
    if level is not None and level not in levels:
        raise ValueError(f"level: found {level}, expected one of {levels} for {skill}")
    supplies = deque(_supply(skill, split, seed, one) for one in ([level] if level else levels))
    seen: set[str] = set()
    while len(seen) < n:
        if not supplies:
            raise ValueError(f"{skill}: found {len(seen)} different prompts in the split {split}, expected {n}")
        if row := next((row for row in supplies[0] if prompt(row) not in seen), None):
            seen.add(prompt(row))
            yield row
            supplies.rotate(-1)
        else:
            supplies.popleft()


def _supply(skill: str, split: str, seed: int | str, level: int) -> Iterator[Row]:
    """All rows of one level that belong to the split, each prompt once, until new ones become too rare."""
    seen: set[str] = set()
    last_new = 0
    for index in count():
        if index - last_new > PATIENCE:
            return
        row = skills()[skill].draw(stream("rows", seed, skill, level, index), level)
        asked = prompt(row)
        if asked not in seen and split_of(asked) == split:
            seen.add(asked)
            last_new = index
            yield {**row, "skill": skill, "level": level}


def preferences(skill: str, split: str, n: int, seed: int | str = 0, level: int | None = None) -> Iterator[Row]:
    """`n` pairs for the same prompt: `chosen` is the reference reply, `rejected` a fluent reply that does not verify.

    The rejected reply is the reference of another problem of the same skill and level: right in form, wrong in fact.
    """
    teacher = skills()[skill]
    for index, row in enumerate(rows(skill, split, n, seed, level)):
        rng = stream("preferences", seed, skill, index)
        other = teacher.draw(rng, row["level"])
        while teacher.verify(row, reply(other)):
            other = teacher.draw(rng, row["level"])
        rest = {key: value for key, value in row.items() if key != "messages"}
        *before, chosen = row["messages"]
        yield {**rest, "prompt": before, "chosen": [chosen], "rejected": [other["messages"][-1]]}
