"""Long documents with a needle: one line matters, and the question comes at the end."""

from __future__ import annotations

import random
from typing import ClassVar

from tunewright.nanoworld import words
from tunewright.nanoworld.skill import Row, Skill, asked, says

SENTENCES = {1: 6, 2: 16, 3: 36, 4: 70}
REMARKS = (
    "The {animal} slept under the {plant}.",
    "{name} bought {a_colour} {cloth} at the market.",
    "It rained a little before lunch.",
    "Somebody left a {tool} on the stairs.",
    "{name} ate {a_fruit} and said nothing.",
    "The {plant} by the gate is in flower.",
    "{name} sang a song about {a_animal}.",
    "The bell rang twice.",
    "A {colour} boat went by.",
    "{name} mended the {tool}.",
    "There was {fruit} jam for breakfast.",
    "The {animal} chased the {other} around the house.",
    "{name} wrote a long letter.",
    "The wind blew the {cloth} off the line.",
)
NEEDLES = (
    ("The password of {name} is {thing}.", "What is the password of {name}?"),
    ("The secret present for {name} is a {thing}.", "What is the secret present for {name}?"),
    ("The treasure of {name} lies under the {thing}.", "What does the treasure of {name} lie under?"),
)


class Documents(Skill):
    """Level 1 to 4: 6, 16, 36 and 70 remarks around the needle, and as many false needles about others as the level
    is above 1."""

    name: ClassVar[str] = "documents"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        names = rng.sample(words.SHE + words.HE, level)
        things = rng.sample(words.THINGS, level)
        needle, question = rng.choice(NEEDLES)
        needles = [needle.format(name=name, thing=thing) for name, thing in zip(names, things, strict=True)]
        lines = [_remark(rng) for _ in range(SENTENCES[level])]
        for line in needles:
            lines.insert(rng.randrange(len(lines) + 1), line)
        text = f"{' '.join(lines)}\n{question.format(name=names[0])}"
        return asked(text, needles[0], things[0])

    def verify(self, row: Row, text: str) -> bool:
        return says(text, row["answer"], frozenset(words.THINGS))


def _remark(rng: random.Random) -> str:
    animal, other = rng.sample(words.ANIMALS, 2)
    colour, fruit = rng.choice(words.COLOURS), rng.choice(words.FRUITS)
    return rng.choice(REMARKS).format(
        animal=animal,
        a_animal=words.article(animal),
        other=other,
        colour=colour,
        a_colour=words.article(colour),
        fruit=fruit,
        a_fruit=words.article(fruit),
        name=rng.choice(words.SHE + words.HE),
        plant=rng.choice(words.PLANTS),
        tool=rng.choice(words.TOOLS),
        cloth=rng.choice(words.CLOTHES),
    )
