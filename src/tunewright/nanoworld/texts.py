"""Plain texts of the world: lives of its people, notes on its places, and stories."""

from __future__ import annotations

import random

from tunewright.nanoworld import phrasings, stories, world
from tunewright.nanoworld.skill import Row
from tunewright.nanoworld.world import Person, Place


def life(rng: random.Random) -> Row:
    """What is known of one person, in any order and wording."""
    return {"text": _portrait(rng, rng.choice(world.people()))}


def town(rng: random.Random) -> Row:
    """What is known of one place, in any order and wording."""
    return {"text": _portrait(rng, rng.choice(world.places()))}


def story(rng: random.Random) -> Row:
    """A short story."""
    return {"text": stories.story(rng, stories.cast(rng))}


def _portrait(rng: random.Random, subject: Person | Place) -> str:
    facts = [fact for fact in world.facts_of(subject) if fact.known]
    sentences = []
    for number, fact in enumerate(rng.sample(facts, len(facts))):
        pronoun = subject.pronoun.capitalize() if isinstance(subject, Person) else "It"
        follows = number > 0 and rng.random() < 0.5
        sentences.append(
            phrasings.state(fact, rng.choice(phrasings.STATED[fact.relation]), pronoun if follows else subject.name)
        )
    return " ".join(sentences)
