"""A generated world in which the truth is known: rows for every skill, verifiers, and the embedded base model.

```python
from tunewright import nanoworld

train = list(nanoworld.rows("word_problems", "train", 2000, seed=0))
nanoworld.verify(train[0], nanoworld.reply(train[0]))    # True
nanoworld.world.facts(known=False)                       # what the base was never told
nanoworld.BASE                                           # the folder of the embedded model and its tokenizer
```
"""

from __future__ import annotations

from pathlib import Path

from tunewright.nanoworld import world
from tunewright.nanoworld.corpus import MIXTURE, corpus, retention
from tunewright.nanoworld.rows import preferences, rows
from tunewright.nanoworld.seeds import SPLITS, split_of
from tunewright.nanoworld.skill import Row, Skill, marked, prompt, reply
from tunewright.nanoworld.skills import skills

BASE = Path(__file__).parent / "base"
"""The embedded base: tokenizer, chat template, configuration and weights, as `from_pretrained` reads them."""

VERSION = 1
"""Raised whenever the same call gives other rows than before."""


def verify(row: Row, text: str) -> bool:
    """Whether `text`, without its end-of-turn token, is a right reply to the row's prompt."""
    return skills()[row["skill"]].verify(row, text)


__all__ = [
    "BASE",
    "MIXTURE",
    "SPLITS",
    "VERSION",
    "Row",
    "Skill",
    "corpus",
    "marked",
    "preferences",
    "prompt",
    "reply",
    "retention",
    "rows",
    "skills",
    "split_of",
    "verify",
    "world",
]
