"""What the embedded base reads: one table of shares, and the stream it describes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from tunewright.nanoworld import texts
from tunewright.nanoworld.seeds import split_of, stream
from tunewright.nanoworld.skill import Row, prompt
from tunewright.nanoworld.skills import skills


@dataclass(frozen=True)
class Share:
    """How many of a thousand rows are of one kind, and of which levels (level -> relative frequency).

    The levels a share leaves out are what tuning can teach.
    """

    per_mille: int
    levels: dict[int, int]


TEXTS: dict[str, Callable[[random.Random], Row]] = {"life": texts.life, "town": texts.town, "story": texts.story}

MIXTURE: dict[str, Share] = {
    "life": Share(180, {0: 1}),
    "town": Share(60, {0: 1}),
    "story": Share(110, {0: 1}),
    "facts": Share(130, {1: 12, 2: 1, 3: 1}),
    "arithmetic": Share(90, {1: 3, 2: 6, 3: 1}),
    "word_problems": Share(80, {1: 8, 2: 2}),
    "programs": Share(50, {1: 8, 2: 2}),
    "functions": Share(50, {1: 7, 2: 2, 3: 1}),
    "instructions": Share(70, {1: 7, 2: 2}),
    "sentiment": Share(25, {1: 9, 2: 1}),
    "entailment": Share(25, {1: 1}),
    "translation": Share(50, {1: 6, 2: 4}),
    "tools": Share(25, {1: 5, 2: 1, 3: 3}),
    "storytelling": Share(20, {1: 5, 2: 1}),
    "documents": Share(15, {1: 6, 2: 1}),
    "dialogues": Share(20, {1: 5, 2: 4}),
}


def corpus(seed: int | str = 0, start: int = 0) -> Iterator[Row]:
    """The endless pretraining stream from row `start` on; row i depends on (seed, i) alone.

    Every row has a prompt of the `pretrain` split, so that nothing a user trains or tests on has been read before.
    """
    for index in count(start):
        yield _row(seed, index)


def _row(seed: int | str, index: int) -> Row:
    rng = stream("corpus", seed, index)
    [kind] = rng.choices(list(MIXTURE), [share.per_mille for share in MIXTURE.values()])
    levels = MIXTURE[kind].levels
    [level] = rng.choices(list(levels), list(levels.values()))
    row: Row = {}
    while not row or split_of(prompt(row)) != "pretrain":
        row = TEXTS[kind](rng) if kind in TEXTS else skills()[kind].draw(rng, level)
    return {**row, "skill": kind, "level": level}


def retention(n: int, seed: int | str = 0) -> Iterator[Row]:
    """`n` plain texts the base should still find likely after tuning: by turns a story, a life and a town.

    None of them is in the pretraining stream, but all are of its kind: known facts and stories in new combinations. A
    loss that rises here means that what was known is being forgotten.
    """
    for index in range(n):
        rng = stream("retention", seed, index)
        kind = ("story", "life", "town")[index % 3]
        row: Row = {}
        while not row or split_of(prompt(row)) != "test":
            row = TEXTS[kind](rng)
        yield {**row, "skill": kind, "level": 0}
