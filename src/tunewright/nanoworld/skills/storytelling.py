"""Short stories on request: the verifier checks that every wish is met and that the story comes to an end."""

from __future__ import annotations

import random
import re
from typing import ClassVar

from tunewright.nanoworld import stories
from tunewright.nanoworld.skill import Row, Skill, asked
from tunewright.nanoworld.words import article

WISHES = (
    ("Tell me a story about {hero}.", "Write a short story about {hero}.", "Can you tell a story about {hero}?"),
    ("Tell me a story about {hero} the {animal}.", "Write a story about {an_animal} named {hero}."),
    (
        "Tell a story about {hero} the {animal} and a {thing}.",
        "Write a story: {an_animal} named {hero}, and a {thing}.",
    ),
    (
        "Tell a story about {hero} the {animal} and a {thing}, set in {a_place}.",
        "Write a story with {an_animal} named {hero}, a {thing} and {a_place}.",
    ),
)


PLEAS = (
    "",
    "Please! ",
    "It is late. ",
    "I cannot sleep. ",
    "It rains outside. ",
    "We have time. ",
    "One more! ",
    "The children are waiting. ",
)


class Storytelling(Skill):
    """The level is the number of wishes: the hero's name, its kind, a thing, a place. `answer` lists them."""

    name: ClassVar[str] = "storytelling"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        about = stories.cast(rng)
        articles = {"an_animal": article(about.animal), "a_place": article(about.place)}
        wish = rng.choice(PLEAS) + rng.choice(WISHES[level - 1]).format(**vars(about), **articles)
        wanted = (about.hero, about.animal, about.thing, about.place)[:level]
        return asked(wish, stories.story(rng, about), ", ".join(wanted))

    def verify(self, row: Row, text: str) -> bool:
        wanted = row["answer"].split(", ")
        sentences = re.findall(r"[.!?]", text)
        ended = text.strip().endswith((".", "!", "?", '"'))
        return ended and 4 <= len(sentences) <= 16 and all(re.search(rf"\b{word}\b", text) for word in wanted)
