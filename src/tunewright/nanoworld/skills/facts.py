"""Questions about what the base was taught: direct, over two facts, and comparing two people or their ages."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import ClassVar

from tunewright.nanoworld import phrasings, world
from tunewright.nanoworld.skill import Row, Skill, asked, says
from tunewright.nanoworld.world import Fact, Person

TWO_HOPS = {
    "river": "Which river flows through the town where {n} lives?",
    "region": "In which region does {n} live?",
    "founded": "When was the home town of {n} founded?",
    "product": "What is the home town of {n} known for making?",
    "landmark": "What is the home town of {n} famous for?",
}


class Facts(Skill):
    """Level 1 asks for one known fact, level 2 for a fact about somebody's home town, level 3 who of two is older,
    level 4 by how many years."""

    name: ClassVar[str] = "facts"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        return (_direct, _two_hops, _older, _age_gap)[level - 1](rng)

    def verify(self, row: Row, text: str) -> bool:
        if row["relation"] == "older":
            last, named = max((text.rfind(name), name) for name in row["pair"])
            return bool(last >= 0 and named == row["answer"])
        if row["relation"] == "age gap":
            return re.findall(r"\d+", text)[-1:] == [row["answer"]]
        return says(text, row["answer"], world.domain(row["relation"]))


def _direct(rng: random.Random) -> Row:
    return question(rng, rng.choice(world.facts(known=True)))


def question(rng: random.Random, fact: Fact) -> Row:
    """A question about one fact, answered by a sentence."""
    wording = rng.choice(phrasings.OPENINGS) + rng.choice(phrasings.ASKED[fact.relation])
    return asked(wording.format(n=fact.subject.name), phrasings.answer(fact), fact.value, relation=fact.relation)


def _two_hops(rng: random.Random) -> Row:
    person, relation = rng.choice(_known_two_hops())
    home, there = Fact(person, "home"), Fact(world.place(person.home), relation)
    wording = rng.choice(phrasings.OPENINGS) + TWO_HOPS[relation].format(n=person.name)
    reply = f"{phrasings.answer(home)} {phrasings.answer(there)}"
    return asked(wording, reply, there.value, relation=relation)


@cache
def _known_two_hops() -> list[tuple[Person, str]]:
    return [
        (person, relation)
        for person in world.people()
        if Fact(person, "home").known
        for relation in TWO_HOPS
        if Fact(world.place(person.home), relation).known
    ]


@cache
def _people_of_known_age() -> list[Person]:
    return [person for person in world.people() if Fact(person, "born").known]


def _two_people(rng: random.Random) -> tuple[Person, Person]:
    one, other = rng.sample(_people_of_known_age(), 2)
    while one.born == other.born:
        one, other = rng.sample(_people_of_known_age(), 2)
    return one, other


def _older(rng: random.Random) -> Row:
    one, other = _two_people(rng)
    older = one if one.born < other.born else other
    reply = f"{one.name} was born in {one.born} and {other.name} in {other.born}. The older one is {older.name}."
    pair = [one.name, other.name]
    return asked(f"Who is older, {one.name} or {other.name}?", reply, older.name, relation="older", pair=pair)


def _age_gap(rng: random.Random) -> Row:
    older, younger = sorted(_two_people(rng), key=lambda person: person.born)
    gap = younger.born - older.born
    reply = f"{older.name} was born in {older.born} and {younger.name} in {younger.born}: {younger.born} - {older.born} = {gap} years."
    return asked(f"How many years is {older.name} older than {younger.name}?", reply, str(gap), relation="age gap")
