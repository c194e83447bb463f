"""Word problems with worked solutions: one sentence and one worked line per step."""

from __future__ import annotations

import random
from typing import ClassVar

from tunewright.nanoworld import words
from tunewright.nanoworld.skill import MARK, Row, Skill, asked, marked

GAINS = (
    "buys {k} more",
    "finds {k} more",
    "wins {k} at the fair",
    "gets {k} from a friend",
    "is given {k} more",
)
LOSSES = (
    "gives {k} to a friend",
    "loses {k}",
    "sells {k} at the market",
    "drops {k} in the river",
    "trades {k} away",
)
DOUBLES = ("doubles the collection", "makes as many again")
TRIPLES = ("triples the collection", "makes twice as many again")
SHARES = (
    "puts them into {k} equal boxes and keeps one box",
    "shares them fairly among {k} people and keeps one part",
)
STARTS = ("{n} has {k} {i}.", "{n} starts the day with {k} {i}.", "There are {k} {i} in the bag of {n}.")
ENDS = (
    "How many {i} does {n} have now?",
    "How many {i} does {n} have in the end?",
    "How many {i} are left with {n}?",
)


class WordProblems(Skill):
    """The level is the number of steps: 1 to 4. Every number on the way is between 1 and 99."""

    name: ClassVar[str] = "word_problems"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        name, items = rng.choice(words.SHE + words.HE), rng.choice(words.COUNTED)
        amount = rng.randrange(3, 25)
        story = [rng.choice(STARTS).format(n=name, k=amount, i=items)]
        work = []
        for number in range(level):
            deed, sign, k = _step(rng, amount)
            after = {"+": amount + k, "-": amount - k, "*": amount * k, "/": amount // k}[sign]
            story.append(f"{name if number == 0 else _then(rng, name)} {deed.format(k=k)}.")
            work.append(f"{name} has {amount} {sign} {k} = {after} {items}.")
            amount = after
        story.append(rng.choice(ENDS).format(n=name, i=items))
        return asked(" ".join(story), f"{' '.join(work)} {MARK} {amount}", str(amount))

    def verify(self, row: Row, text: str) -> bool:
        return marked(text) == row["answer"]


def _then(rng: random.Random, name: str) -> str:
    return rng.choice((f"Then {name}", f"Later {name}", f"The next day {name}", f"After lunch {name}"))


def _step(rng: random.Random, amount: int) -> tuple[str, str, int]:
    """What happens, as words, sign and number, such that the amount stays between 1 and 99."""
    parts = [k for k in (2, 3, 4, 5) if amount % k == 0 and amount > k]
    signs = ["+"] * (amount < 80) * 3 + ["-"] * (amount > 4) * 3 + ["*"] * (amount < 33) * 2 + ["/"] * bool(parts) * 2
    sign = rng.choice(signs)
    if sign == "+":
        return rng.choice(GAINS), sign, rng.randrange(2, 20)
    if sign == "-":
        return rng.choice(LOSSES), sign, rng.randrange(2, min(amount - 1, 20))
    if sign == "*":
        k = rng.choice((2, 3))
        return rng.choice(DOUBLES if k == 2 else TRIPLES), sign, k
    return rng.choice(SHARES), sign, rng.choice(parts)
