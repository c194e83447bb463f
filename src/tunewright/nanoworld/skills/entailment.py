"""Does it follow? Comparisons of people, chained over one to three premises: yes, no or unknown."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import ClassVar

from tunewright.nanoworld import words
from tunewright.nanoworld.skill import Row, Skill, asked, plain

ORDERS = (
    ("taller", "shorter"),
    ("older", "younger"),
    ("faster", "slower"),
    ("richer", "poorer"),
    ("louder", "quieter"),
    ("stronger", "weaker"),
)


class Entailment(Skill):
    """The level is the number of premises, 1 to 3. One question in four is about an order that nothing was said of."""

    name: ClassVar[str] = "entailment"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def draw(self, rng: random.Random, level: int) -> Row:
        order = rng.choice(ORDERS)
        ranked = rng.sample(words.SHE + words.HE, level + 1)
        premises = [_says(rng, order, high, low) for high, low in pairwise(ranked)]
        rng.shuffle(premises)
        one, other = rng.sample((ranked[0], ranked[-1]), 2)
        if rng.random() < 0.25:
            claim = rng.choice(rng.choice([pair for pair in ORDERS if pair != order]))
            answer = "unknown"
        else:
            claim = rng.choice(order)
            answer = "yes" if (one == ranked[0]) == (claim == order[0]) else "no"
        question = f"{' '.join(premises)} Is {one} {claim} than {other}?"
        return asked(f"{question} Answer yes, no or unknown.", answer, answer)

    def verify(self, row: Row, text: str) -> bool:
        return plain(text) == row["answer"]


def _says(rng: random.Random, order: tuple[str, str], high: str, low: str) -> str:
    more, less = order
    return rng.choice((f"{high} is {more} than {low}.", f"{low} is {less} than {high}."))
