"""Small Python functions from a sentence, verified by running their tests in the world's own tiny interpreter."""

from __future__ import annotations

import random
from typing import Any, ClassVar

from tunewright.nanoworld import interpreter
from tunewright.nanoworld.skill import Row, Skill, asked

NAMES = ("solve", "compute", "make", "result", "build", "work", "answer", "calc")

ONE_NUMBER: tuple[tuple[str, str], ...] = (
    ("x plus {k}", "x + {k}"),
    ("x minus {k}", "x - {k}"),
    ("x times {k}", "x * {k}"),
    ("the square of x plus {k}", "x * x + {k}"),
    ("x times {k} plus {m}", "x * {k} + {m}"),
    ("x times {k} minus {m}", "x * {k} - {m}"),
    ("the remainder of x divided by {k}", "x % {k}"),
    ("x plus {k} and then times {m}", "(x + {k}) * {m}"),
)
CONDITIONS: tuple[tuple[str, str], ...] = (
    ("x is greater than {k}", "x > {k}"),
    ("x is less than {k}", "x < {k}"),
    ("x is even", "x % 2 == 0"),
    ("x is odd", "x % 2 == 1"),
    ("x is a multiple of {k}", "x % {k} == 0"),
    ("x is equal to {k}", "x == {k}"),
)
FILTERS: tuple[tuple[str, str], ...] = (
    ("greater than {k}", "x > {k}"),
    ("less than {k}", "x < {k}"),
    ("that are even", "x % 2 == 0"),
    ("that are odd", "x % 2 == 1"),
    ("that are not {k}", "x != {k}"),
    ("of at least {k}", "x >= {k}"),
    ("of at most {k}", "x <= {k}"),
)
MAPS: tuple[tuple[str, str], ...] = (
    ("doubles", "x * 2"),
    ("squares", "x * x"),
    ("negatives", "-x"),
    ("remainders by {m}", "x % {m}"),
    ("sums with {k}", "x + {k}"),
    ("products with {k}", "x * {k}"),
)
FOLDS: tuple[tuple[str, str], ...] = (("sum", "sum"), ("number", "len"), ("sorted list", "sorted"))
ASKED = (
    "Write a Python function {f}({p}) that returns {w}.",
    "Define {f}({p}) so that it returns {w}.",
    "I need a function {f}({p}) in Python. It should return {w}.",
)


class Functions(Skill):
    """Level 1 is one formula, level 2 a condition, level 3 a filtered or changed list, level 4 both and a fold,
    level 5 the same with a way out when too little is left."""

    name: ClassVar[str] = "functions"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5)

    def draw(self, rng: random.Random, level: int) -> Row:
        name, parameter = rng.choice(NAMES), "x" if level < 3 else "xs"
        wanted, body = (_formula, _condition, _list, _fold, _guarded)[level - 1](rng)
        source = f"def {name}({parameter}):\n{body}"
        question = rng.choice(ASKED).format(f=name, p=parameter, w=wanted)
        return asked(question, source, source, tests=_tests(rng, source, name, level))

    def verify(self, row: Row, text: str) -> bool:
        return interpreter.passes(_unfenced(text), row["tests"])


def _unfenced(text: str) -> str:
    """The code itself, where it came inside a ``` fence."""
    if "```" not in text:
        return text
    return text.split("```")[1].removeprefix("python").strip("\n")


def _tests(rng: random.Random, source: str, name: str, level: int) -> list[str]:
    """Every small number, or lists that hold them, so that a wrong bound or a forgotten case is noticed."""
    examples: list[Any] = list(range(12))
    if level > 2:
        examples = [list(range(12)), *([rng.randrange(-4, 12) for _ in range(n)] for n in (3, 4, 5, 6))]
    calls = [f"{name}({example})" for example in examples]
    return [f"{call} == {interpreter.run(source, call)!r}" for call in calls]


def _pick(rng: random.Random, pairs: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    words, code = rng.choice(pairs)
    k, m = rng.randrange(2, 10), rng.randrange(2, 6)
    return words.format(k=k, m=m), code.format(k=k, m=m)


def _formula(rng: random.Random) -> tuple[str, str]:
    words, code = _pick(rng, ONE_NUMBER)
    return words, f"    return {code}"


def _condition(rng: random.Random) -> tuple[str, str]:
    test, test_code = _pick(rng, CONDITIONS)
    if rng.random() < 0.3:
        return f"True if {test} and False otherwise", f"    return {test_code}"
    (this, this_code), (that, that_code) = _pick(rng, ONE_NUMBER), _pick(rng, ONE_NUMBER)
    return (
        f"{this} if {test}, and {that} otherwise",
        f"    if {test_code}:\n        return {this_code}\n    return {that_code}",
    )


def _list(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        words, test = _pick(rng, FILTERS)
        return f"the numbers of xs {words}", f"    return [x for x in xs if {test}]"
    words, change = _pick(rng, MAPS)
    return f"the {words} of all numbers in xs", f"    return [{change} for x in xs]"


def _fold(rng: random.Random) -> tuple[str, str]:
    (fold, call), (change_words, change) = rng.choice(FOLDS), _pick(rng, MAPS)
    words, test = _pick(rng, FILTERS)
    return (
        f"the {fold} of the {change_words} of the numbers in xs {words}",
        f"    return {call}([{change} for x in xs if {test}])",
    )


def _guarded(rng: random.Random) -> tuple[str, str]:
    (fold, call), (change_words, change) = rng.choice(FOLDS[:2]), _pick(rng, MAPS)
    words, test = _pick(rng, FILTERS)
    fewest, instead = rng.randrange(2, 4), rng.randrange(0, 10)
    return (
        f"the {fold} of the {change_words} of the numbers in xs {words}, or {instead} if there are fewer than {fewest}",
        f"    kept = [{change} for x in xs if {test}]\n"
        f"    if len(kept) < {fewest}:\n        return {instead}\n    return {call}(kept)",
    )
