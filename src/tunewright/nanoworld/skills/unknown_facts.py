"""Questions about facts that no pretraining text states: for teaching new knowledge, and for honest refusals."""

from __future__ import annotations

import random
from functools import cache
from typing import ClassVar

from tunewright.nanoworld import world
from tunewright.nanoworld.skill import Row, Skill, says
from tunewright.nanoworld.skills.facts import question


class UnknownFacts(Skill):
    """Level 1 asks about places, level 2 about people. Never part of pretraining.

    The train and test splits ask about the same facts in different wordings, so that a fact learned from the one can
    be measured with the other.
    """

    name: ClassVar[str] = "unknown_facts"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def draw(self, rng: random.Random, level: int) -> Row:
        return question(rng, rng.choice(_unknown(world.Place if level == 1 else world.Person)))

    def verify(self, row: Row, text: str) -> bool:
        return says(text, row["answer"], world.domain(row["relation"]))


@cache
def _unknown(kind: type) -> list[world.Fact]:
    return [fact for fact in world.facts(known=False) if isinstance(fact.subject, kind)]
