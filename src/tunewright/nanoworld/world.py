"""The one fixed world: 60 places, 300 people and 2,100 facts about them.

The world has no seed argument: the embedded base was trained on it, so there is exactly one. About a fifth of the
facts are *unknown*: they are true here, but no text the base ever read states them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tunewright.nanoworld import words
from tunewright.nanoworld.seeds import digest, stream

UNKNOWN_PERCENT = 20


@dataclass(frozen=True)
class Place:
    """A town. `river`, `region`, `founded`, `product` and `landmark` are its facts."""

    name: str
    river: str
    region: str
    founded: int
    product: str
    landmark: str


@dataclass(frozen=True)
class Person:
    """Somebody who lives in one of the places."""

    name: str
    pronoun: str
    born: int
    home: str
    job: str
    hobby: str
    pet: str
    dish: str

    @property
    def first(self) -> str:
        return self.name.split()[0]


RELATIONS: dict[type, tuple[str, ...]] = {
    Place: ("river", "region", "founded", "product", "landmark"),
    Person: ("born", "home", "job", "hobby", "pet", "dish"),
}


@dataclass(frozen=True)
class Fact:
    """`subject` stands in `relation` to `value`, e.g. Mira Holt, home, Kettlewick."""

    subject: Person | Place
    relation: str

    @property
    def value(self) -> str:
        return str(getattr(self.subject, self.relation))

    @property
    def known(self) -> bool:
        """Whether the pretraining text may state it."""
        return digest("known", self.subject.name, self.relation) % 100 >= UNKNOWN_PERCENT


@cache
def places() -> tuple[Place, ...]:
    """The 60 places, in a fixed order."""
    rng = stream("world", "places")
    names = rng.sample([head + tail for head in words.PLACE_HEADS for tail in words.PLACE_TAILS], 60)
    return tuple(
        Place(
            name=name,
            river=rng.choice(words.RIVERS),
            region=rng.choice(words.REGIONS),
            founded=rng.randrange(1100, 1900),
            product=rng.choice(words.PRODUCTS),
            landmark=rng.choice(words.LANDMARKS),
        )
        for name in names
    )


@cache
def people() -> tuple[Person, ...]:
    """The 300 people, in a fixed order; no two share a full name."""
    rng = stream("world", "people")
    given = [(name, "she") for name in words.SHE] + [(name, "he") for name in words.HE]
    names = rng.sample([(f"{first} {last}", who) for first, who in given for last in words.FAMILY], 300)
    return tuple(
        Person(
            name=name,
            pronoun=pronoun,
            born=rng.randrange(1930, 2010),
            home=rng.choice(places()).name,
            job=rng.choice(words.JOBS),
            hobby=rng.choice(words.HOBBIES),
            pet=rng.choice(words.PETS),
            dish=rng.choice(words.DISHES),
        )
        for name, pronoun in names
    )


def place(name: str) -> Place:
    """The place of that name."""
    return _places_by_name()[name]


@cache
def _places_by_name() -> dict[str, Place]:
    return {one.name: one for one in places()}


def facts_of(subject: Person | Place) -> Iterator[Fact]:
    """All facts about one person or place, known and unknown."""
    for relation in RELATIONS[type(subject)]:
        yield Fact(subject, relation)


@cache
def facts(known: bool | None = None) -> tuple[Fact, ...]:
    """All facts, or only those the base was taught (`known=True`), or only the others (`known=False`)."""
    subjects: tuple[Person | Place, ...] = (*people(), *places())
    every = (fact for subject in subjects for fact in facts_of(subject))
    return tuple(fact for fact in every if known is None or fact.known == known)


@cache
def domain(relation: str) -> frozenset[str]:
    """Every value some subject has in this relation: the wrong answers a right answer must not contain."""
    return frozenset(fact.value for fact in facts() if fact.relation == relation)
