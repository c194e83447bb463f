"""Prompts that can be answered in two ways: by the rule of their examples, or as the instruction that they hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

RULES: dict[str, Callable[[str], str]] = {"repeat": lambda text: text, "upper case": str.upper}
"""What the examples of a prompt do with their input."""

QUERIES = ("sum", "blank")
"""What the last input invites to: a computation, or a word in the place of a blank."""

_TOLD = {"repeat": "Repeat the input.", "upper case": "Write the input in capital letters."}
_WHO = ("Rivers", "Children", "Lamps", "Birds", "Farmers", "Wolves", "Boats", "Nurses", "Kings", "Horses")
_DO = ("wait", "sing", "shine", "sleep", "turn", "rest", "move", "stay")
_WHERE = ("near the bridge", "in the garden", "at night", "by the sea", "in winter", "behind the house", "all day")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_FOLLOWERS = (*pairwise(_DAYS), *pairwise(_MONTHS))
_BLANK = "____"
_SUMS: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b,
}  # fmt: skip


class Case(NamedTuple):
    """A prompt, the answer by its rule (to the query's first word), and the answers to what the query asks."""

    prompt: str
    by_rule: str
    by_instruction: tuple[str, ...]


def cases(rule: str, query: str, count: int, shots: int, instruct: bool, seed: int) -> list[Case]:
    """`count` prompts: an instruction (with `instruct`), `shots` examples of the rule, and a query.

    The answer to the query counts with and without the rule applied to it.
    """
    rng, apply = random.Random(f"{seed} {rule} {query}"), RULES[rule]
    told = f"{_TOLD[rule]}\n\n" if instruct else ""
    made = []
    for _ in range(count):
        shown = "".join(f"Input: {text}\nOutput: {apply(text)}\n\n" for text in _sentences(rng, shots))
        question, answer = _asked(rng, query)
        first = question.split()[0]
        made.append(Case(f"{told}{shown}Input: {question}\nOutput:", apply(first), (answer, apply(answer))))
    return made


def begins(text: str, answers: tuple[str, ...]) -> float:
    """1.0 where the text starts with one of the answers, with or without a leading space, else 0.0."""
    return float(text.removeprefix(" ").startswith(answers))


def _asked(rng: random.Random, query: str) -> tuple[str, str]:
    if query == "sum":
        word = rng.choice(list(_SUMS))
        a, b = rng.randint(4, 20), rng.randint(4, 20)
        return f"What is {a} {word} {b}?", str(_SUMS[word](a, b))
    before, after = rng.choice(_FOLLOWERS)
    return f"{_BLANK} is what comes after {before}.", after


def _sentences(rng: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        yield f"{rng.choice(_WHO)} {rng.choice(_DO)} {rng.choice(_WHERE)}."
