"""Sums, differences, products and quotients, worked column by column from the right."""

from __future__ import annotations

import random
from typing import ClassVar

from tunewright.nanoworld.skill import MARK, Row, Skill, asked, marked

WORDINGS: dict[str, tuple[str, ...]] = {
    "+": ("What is {a} + {b}?", "Compute {a} + {b}.", "Add {a} and {b}.", "{a} + {b} = ?"),
    "-": ("What is {a} - {b}?", "Compute {a} - {b}.", "Subtract {b} from {a}.", "{a} - {b} = ?"),
    "*": ("What is {a} * {b}?", "Compute {a} * {b}.", "Multiply {a} by {b}.", "{a} * {b} = ?"),
    "/": ("What is {a} / {b}?", "Compute {a} / {b}.", "Divide {a} by {b}.", "{a} / {b} = ?"),
}
COLUMNS = ("ones", "tens", "hundreds", "thousands", "ten thousands")


class Arithmetic(Skill):
    """The level is the number of digits, 1 to 4, of both operands, or of the one that is not a factor or divisor."""

    name: ClassVar[str] = "arithmetic"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        sign = rng.choice("++--*/")
        a, b = rng.randrange(10 ** (level - 1), 10**level), rng.randrange(10 ** (level - 1), 10**level)
        if sign in "+-":
            a, b = max(a, b), min(a, b)
        else:
            b = rng.randrange(2, 10)
        work, result = {"+": _add, "-": _subtract, "*": _multiply, "/": _divide}[sign](a, b)
        shown = a * b if sign == "/" else a
        wording = rng.choice(WORDINGS[sign]).format(a=shown, b=b)
        return asked(wording, f"{work}. {MARK} {result}", str(result))

    def verify(self, row: Row, text: str) -> bool:
        return marked(text) == row["answer"]


def _digits(number: int) -> list[int]:
    return [int(digit) for digit in reversed(str(number))]


def _add(a: int, b: int) -> tuple[str, int]:
    steps, carry = [], 0
    ours, theirs = _digits(a), _digits(b)
    for place, top in enumerate(ours):
        bottom = theirs[place] if place < len(theirs) else 0
        total = top + bottom + carry
        steps.append(f"{COLUMNS[place]} {top} + {bottom}{f' + {carry}' if carry else ''} = {total}")
        carry = total // 10
    return ", ".join(steps), a + b


def _subtract(a: int, b: int) -> tuple[str, int]:
    steps, borrow = [], 0
    ours, theirs = _digits(a), _digits(b)
    for place, top in enumerate(ours):
        bottom = (theirs[place] if place < len(theirs) else 0) + borrow
        borrow = int(top < bottom)
        steps.append(f"{COLUMNS[place]} {top + 10 * borrow} - {bottom} = {top + 10 * borrow - bottom}")
    return ", ".join(steps), a - b


def _multiply(a: int, b: int) -> tuple[str, int]:
    steps, carry = [], 0
    for place, top in enumerate(_digits(a)):
        total = top * b + carry
        steps.append(f"{COLUMNS[place]} {top} * {b}{f' + {carry}' if carry else ''} = {total}")
        carry = total // 10
    return ", ".join(steps), a * b


def _divide(a: int, b: int) -> tuple[str, int]:
    return f"{b} goes {a} times into {a * b}", a
