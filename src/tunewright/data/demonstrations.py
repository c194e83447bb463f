"""Solved examples before a prompt: put there, and taken away again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from tunewright.data import duplicates
from tunewright.data.records import Record, Turn

COLUMN = "demonstration turns"
"""The column of a record that counts the turns put before its own."""


def preceded(record: Record, examples: Sequence[Record], mode: Literal["chat", "verbatim"]) -> Record:
    """The record with the examples as earlier turns of loss weight 0, behind its system turn.

    Their own system turns are left out. Joined verbatim (`mode`, see `Renderer.mode`) each ends in an empty line.
    """
    gap = "" if mode == "chat" else "\n\n"
    before = tuple(
        replace(turn, content=turn.content + gap * (turn is example.turns[-1]), weight=0.0)
        for example in examples
        for turn in example.turns
        if turn.role != "system"
    )
    opening = _opening(record)
    behind = lambda turns: (*turns[:opening], *before, *turns[opening:])
    return replace(
        record,
        turns=behind(record.turns),
        rejected=None if record.rejected is None else behind(record.rejected),
        columns={**record.columns, COLUMN: record.columns.get(COLUMN, 0) + len(before)},
    )


def bare(record: Record) -> Record:
    """The record without the examples that `preceded` put before it."""
    start = _opening(record)
    end = start + record.columns.get(COLUMN, 0)
    without: tuple[Turn, ...] = (*record.turns[:start], *record.turns[end:])
    rejected = record.rejected and (*record.rejected[:start], *record.rejected[end:])
    columns = {name: value for name, value in record.columns.items() if name != COLUMN}
    return replace(record, turns=without, rejected=rejected, columns=columns)


def drawn(record: Record, rows: Sequence[Record], count: int, rng: random.Random) -> list[Record]:
    """At most `count` different rows in random order; none asks what the record asks, none is judged wrong."""
    own, found, seen = duplicates.prompt(bare(record)), list[Record](), set[int]()
    for row in shuffled(rows, rng):
        if len(found) == count:
            break
        asked = duplicates.prompt(row) if row.prompt and row.label is not False else own
        if asked != own and asked not in seen:
            seen.add(asked)
            found.append(row)
    return found


def shuffled(rows: Sequence[Record], rng: random.Random) -> Iterator[Record]:
    """The rows in random order, each drawn when it is asked for."""
    moved: dict[int, int] = {}
    for place in range(len(rows)):
        other = rng.randrange(place, len(rows))
        yield rows[moved.get(other, other)]
        moved[other] = moved.get(place, place)


def _opening(record: Record) -> int:
    return int(record.turns[0].role == "system")
