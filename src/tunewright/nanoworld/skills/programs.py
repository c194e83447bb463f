"""Small integer programs, traced line by line."""

from __future__ import annotations

import random
from typing import ClassVar

from tunewright.nanoworld.skill import MARK, Row, Skill, asked, marked

ASKED = (
    "What is {v} after this program?",
    "Trace this program and give {v}.",
    "What value does {v} have at the end?",
)


class Programs(Skill):
    """Level 1 has two assignments, level 2 four, level 3 adds a condition, level 4 a loop."""

    name: ClassVar[str] = "programs"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        tracer = _Tracer(rng)
        for _ in range(1 if level == 1 else 2):
            tracer.start()
        tracer.assign()
        if level == 2:
            tracer.assign()
        if level == 3:
            tracer.condition()
        if level == 4:
            tracer.loop()
        wording = rng.choice(ASKED).format(v=tracer.last)
        answer = str(tracer.values[tracer.last])
        trace = "\n".join(tracer.trace)
        return asked("\n".join([wording, *tracer.code]), f"{trace}\n{MARK} {answer}", answer)

    def verify(self, row: Row, text: str) -> bool:
        return marked(text) == row["answer"]


class _Tracer:
    """Writes a program and its trace together."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.free = rng.sample("abcdkmnpxyz", 4)
        self.values: dict[str, int] = {}
        self.last = ""
        self.code: list[str] = []
        self.trace: list[str] = []

    def start(self) -> None:
        """`a = 3`"""
        self.last, value = self.free.pop(), self.rng.randrange(1, 13)
        self.values[self.last] = value
        self.code.append(f"{self.last} = {value}")
        self.trace.append(f"{self.last} = {value}")

    def assign(self) -> None:
        """`b = a * 2`, to a new variable or an old one."""
        target = self.rng.choice([self.free.pop(), *self.values])
        left = self.rng.choice(list(self.values))
        self.step(target, left, *self.operation(left), indent="")

    def operation(self, left: str) -> tuple[str, str]:
        """A sign and its right side: a small number, or a variable other than the left one."""
        sign = self.rng.choice("++--*")
        if sign == "*":
            return sign, str(self.rng.randrange(2, 4))
        others = [name for name in self.values if name != left]
        return sign, self.rng.choice([str(self.rng.randrange(1, 10)), *others])

    def step(self, target: str, left: str, sign: str, right: str, indent: str, line: bool = True) -> None:
        """Runs `target = left sign right`; `line` says whether it is also a new line of the program."""
        a = self.values[left]
        b = self.values[right] if right in self.values else int(right)
        self.values[target] = {"+": a + b, "-": a - b, "*": a * b}[sign]
        self.last = target
        if line:
            self.code.append(f"{indent}{target} = {left} {sign} {right}")
        self.trace.append(f"{target} = {a} {sign} {b} = {self.values[target]}")

    def condition(self) -> None:
        """An assignment that happens only if a variable is large enough."""
        name, bound = self.last, self.rng.randrange(1, 20)
        self.code.append(f"if {name} > {bound}:")
        holds = self.values[name] > bound
        self.trace.append(f"{self.values[name]} > {bound} is {holds}")
        sign, right = self.operation(name)
        if holds:
            self.step(name, name, sign, right, indent="    ")
        else:
            self.code.append(f"    {name} = {name} {sign} {right}")

    def loop(self) -> None:
        """An addition done two to four times."""
        name, times, k = self.last, self.rng.randrange(2, 5), self.rng.randrange(1, 10)
        sign = self.rng.choice("+-")
        self.code += [f"for i in range({times}):", f"    {name} = {name} {sign} {k}"]
        for _ in range(times):
            self.step(name, name, sign, str(k), indent="", line=False)
