"""Plain instructions on short lists: sort, reverse, extract, count, copy, filter and classify."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

from tunewright.nanoworld import words
from tunewright.nanoworld.skill import Row, Skill, asked, plain


class Instructions(Skill):
    """The level sets how many items there are: 2 to 3, then 4, 5 and 6."""

    name: ClassVar[str] = "instructions"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        question, answer = rng.choice(DEEDS)(rng, rng.randrange(2, 4) if level == 1 else level + 2)
        return asked(question, answer, answer)

    def verify(self, row: Row, text: str) -> bool:
        return plain(text) == plain(row["answer"])


def _sort_words(rng: random.Random, n: int) -> tuple[str, str]:
    items = _words(rng, n)
    asking = rng.choice(("Sort these words: {}", "Put these words in alphabetical order: {}", "Sort from a to z: {}"))
    return asking.format(", ".join(items)), ", ".join(sorted(items))


def _sort_numbers(rng: random.Random, n: int) -> tuple[str, str]:
    items, down = rng.sample(range(1, 100), n), rng.random() < 0.5
    asking = rng.choice(("Sort these numbers from {} to {}: ", "Put these numbers in order from {} to {}: "))
    ends = ("largest", "smallest") if down else ("smallest", "largest")
    return asking.format(*ends) + _joined(items), _joined(sorted(items, reverse=down))


def _reverse(rng: random.Random, n: int) -> tuple[str, str]:
    items = _words(rng, n)
    asking = rng.choice(("Reverse this list: {}", "Write this list backwards: {}", "Say these from last to first: {}"))
    return asking.format(", ".join(items)), ", ".join(reversed(items))


def _extract(rng: random.Random, n: int) -> tuple[str, str]:
    items = _words(rng, n)
    place = rng.randrange(n)
    which = ("first", "second", "third", "fourth", "fifth", "sixth")[place]
    if place == n - 1 and rng.random() < 0.5:
        which = "last"
    asking = rng.choice(("What is the {} word of this list? {}", "Give me the {} word: {}", "Find the {} item: {}"))
    return asking.format(which, ", ".join(items)), items[place]


def _count(rng: random.Random, n: int) -> tuple[str, str]:
    wanted, other = rng.sample(_words(rng, 8), 2)
    items = [rng.choice((wanted, other)) for _ in range(n)]
    asking = rng.choice(("How often does {} appear here? {}", "Count the word {} in this list: {}"))
    return asking.format(wanted, ", ".join(items)), str(items.count(wanted))


def _copy(rng: random.Random, n: int) -> tuple[str, str]:
    items = ", ".join(_words(rng, n))
    return rng.choice(("Copy this list: {}", "Repeat after me: {}", "Write this once more: {}")).format(items), items


def _filter(rng: random.Random, n: int) -> tuple[str, str]:
    kind = rng.choice(list(words.KINDS))
    good = rng.sample(words.KINDS[kind], rng.randrange(1, n))
    others = [word for other, some in words.KINDS.items() if other != kind for word in some]
    items = rng.sample(good + rng.sample(others, n - len(good)), n)
    many = {"piece of clothing": "pieces of clothing"}.get(kind, kind + "s")
    asking = rng.choice(("Which of these are {}? {}", "Keep only the {}: {}", "Find all the {}: {}"))
    return asking.format(many, ", ".join(items)), ", ".join(word for word in items if word in good)


def _classify(rng: random.Random, n: int) -> tuple[str, str]:
    items = _words(rng, n)
    kinds = [kind for item in items for kind, members in words.KINDS.items() if item in members]
    asking = rng.choice(("Say what kind of thing each one is: {}", "Classify each word: {}"))
    return asking.format(", ".join(items)), ", ".join(f"{a}: {b}" for a, b in zip(items, kinds, strict=True))


DEEDS: tuple[Callable[[random.Random, int], tuple[str, str]], ...] = (
    _sort_words,
    _sort_numbers,
    _reverse,
    _extract,
    _count,
    _copy,
    _filter,
    _classify,
)


def _words(rng: random.Random, n: int) -> list[str]:
    return rng.sample([word for members in words.KINDS.values() for word in members], n)


def _joined(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
