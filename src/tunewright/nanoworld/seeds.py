"""Seeds and splits: item i of anything in the world is a function of (seed, name, i), with no history.

`hashlib` is used throughout, never `hash()`, whose value for strings differs between processes.
"""

from __future__ import annotations

import hashlib
import random

SPLITS: dict[str, int] = {"pretrain": 50, "train": 30, "tuning": 10, "test": 10}
"""Percent of all prompts in each split. The base sees only `pretrain`; a user tunes on `train`, chooses
options on `tuning` and reports on `test`."""


def digest(*parts: object) -> int:
    """A 64-bit number from the parts' text, equal on every machine and in every process."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def stream(*parts: object) -> random.Random:
    """A random generator that depends on the parts alone, e.g. `stream(seed, "arithmetic", 17)`."""
    return random.Random(digest(*parts))


def split_of(prompt: str) -> str:
    """The split a prompt belongs to: by its hash, so the same prompt is never on two sides."""
    place = digest("split", prompt) % 100
    for name, percent in SPLITS.items():
        if place < percent:
            return name
        place -= percent
    raise AssertionError("SPLITS must add up to 100")
