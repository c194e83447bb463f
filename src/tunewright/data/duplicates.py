"""Hashes of what records say: for duplicates, overlap of training and evaluation data, and the split."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from itertools import chain, islice

from tunewright.data.records import Record, Turn


def content(record: Record) -> int:
    """A 64-bit hash of everything a record says; blanks count as one, weights and columns do not count."""
    said = [_said(turn) for turn in record.turns]
    if record.rejected is not None:
        said += ["\x1erejected", *(_said(turn) for turn in record.rejected)]
    for turns, reward in record.scored:
        said += [f"\x1ereward {reward}", *(_said(turn) for turn in turns)]
    if isinstance(record.label, bool):
        said.append(f"\x1elabel {record.label}")
    if record.tools:
        said.append(json.dumps(record.tools, sort_keys=True, default=str))
    return _hash("\x1f".join(said))


def prompt(record: Record) -> int:
    """A 64-bit hash of what is asked (of the text itself for plain text): the same question, the same hash."""
    return _hash("\x1f".join(_said(turn) for turn in record.prompt or record.turns))


def split(records: Iterator[Record], share: float) -> Iterator[tuple[Record, bool]]:
    """Each record, and whether it is held out: by the hash of its prompt alone, whatever the rows around it.

    In a source so small that this would hold out nothing (or everything), the prompt with the smallest hash alone is
    held out (or the one with the largest kept). Nothing is held out of a source with a single prompt.
    """
    level = int(share * 2**64)
    enough = math.ceil(50 / min(share, 1 - share))
    first = list(islice(records, enough))
    if first and len(first) < enough:
        hashes = [prompt(record) for record in first]
        level = min(max(level, min(hashes) + 1), max(hashes))
        level = 0 if min(hashes) == max(hashes) else level
    yield from ((record, prompt(record) < level) for record in chain(first, records))


def _said(turn: Turn) -> str:
    calls = json.dumps(turn.calls, sort_keys=True, default=str) if turn.calls else ""
    said = f"{turn.role}\x1f{' '.join(turn.content.split())}\x1f{' '.join((turn.reasoning or '').split())}\x1f{calls}"
    return said if turn.name is None else f"{said}\x1fby {turn.name}"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
