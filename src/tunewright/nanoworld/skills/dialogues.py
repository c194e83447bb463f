"""Conversations of several turns, in which the last question needs what was said before."""

from __future__ import annotations

import random
import re
from typing import ClassVar

from tunewright.nanoworld import words
from tunewright.nanoworld.skill import Row, Skill, said

GOODS = ("bread", "honey", "eggs", "tea", "rope", "soap", "candles", "butter", "ink", "jam", "rice", "salt")
HELLOS = ("Hello, I am {n}.", "Good morning! My name is {n}.", "Hi, {n} here.")
GREETINGS = ("Hello {n}! How can I help?", "Good to meet you, {n}.", "Hello {n}, what can I do for you?")
CHATTER = (
    ("Do you like rain?", "I like the sound of it."),
    ("Are you never tired?", "Only of waiting."),
    ("Tell me something nice.", "Somewhere a goat is jumping for no reason."),
    ("What is your favourite colour?", "Whatever colour the sea has today."),
    ("Can you dance?", "Only in my thoughts."),
)
ADDS = ("Please put {g} on my list.", "Add {g} to the list.", "I also need {g}.")
DROPS = ("Take {g} off the list again.", "I do not need {g} after all.", "Please remove {g}.")
SHOWS = ("What is on my list?", "Read me my list.", "What do I have to buy?")


class Dialogues(Skill):
    """Level 1 asks for the user's name, level 2 for a shopping list, level 3 for a list from which things were taken
    off, level 4 for a longer one with small talk in between."""

    name: ClassVar[str] = "dialogues"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        name = rng.choice(words.SHE + words.HE)
        turns = [("user", rng.choice(HELLOS).format(n=name)), ("assistant", rng.choice(GREETINGS).format(n=name))]
        if level in (1, 4):
            turns += _small_talk(rng)
        if level == 1:
            turns += [("user", rng.choice(("What is my name?", "Do you remember my name?", "Who am I?")))]
            return said([*turns, ("assistant", f"Your name is {name}.")], name)
        items: list[str] = []
        for add in (True,) * level + (False,) * (level > 2) + (True,) * (level > 3):
            turns += _change(rng, items, add)
        turns += _small_talk(rng) if level == 4 else []
        turns += [("user", rng.choice(SHOWS))]
        return said([*turns, ("assistant", f"Your list: {words.listing(items)}.")], ", ".join(items))

    def verify(self, row: Row, text: str) -> bool:
        wanted = row["answer"].split(", ")
        among = set(GOODS) if set(wanted) <= set(GOODS) else set(words.SHE + words.HE)
        return [word for word in re.findall(r"\w+", text) if word in among] == wanted


def _change(rng: random.Random, items: list[str], add: bool) -> list[tuple[str, str]]:
    """A request to change the list, and its confirmation; `items` is changed."""
    if add:
        item = rng.choice([one for one in GOODS if one not in items])
        items.append(item)
        return [("user", rng.choice(ADDS).format(g=item)), ("assistant", f"I have added {item}.")]
    item = rng.choice(items)
    items.remove(item)
    return [("user", rng.choice(DROPS).format(g=item)), ("assistant", f"I have removed {item}.")]


def _small_talk(rng: random.Random) -> list[tuple[str, str]]:
    question, answer = rng.choice(CHATTER)
    return [("user", question), ("assistant", answer)]
