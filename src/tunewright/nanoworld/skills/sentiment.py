"""What a short review feels: positive, negative or mixed."""

from __future__ import annotations

import random
from typing import ClassVar

from tunewright.nanoworld import world
from tunewright.nanoworld.skill import Row, Skill, asked, plain

PARTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "inn": (
        ("bed", "soup", "landlord", "view", "breakfast"),
        "cosy warm friendly quiet",
        "cold noisy rude damp",
    ),
    "book": (
        ("story", "ending", "first chapter", "hero", "cover"),
        "clever gripping funny lovely",
        "dull silly flat sad",
    ),
    "ferry": (
        ("captain", "deck", "ticket", "crossing", "tea"),
        "calm cheap punctual pleasant",
        "late costly wet shaky",
    ),
    "concert": (
        ("singer", "hall", "fiddle", "last song", "choir"),
        "bright moving lively sweet",
        "loud weak endless sour",
    ),
    "market": (
        ("bread", "honey", "stall", "seller", "cheese"),
        "fresh tasty honest colourful",
        "stale mouldy greedy dirty",
    ),
}
ASKED = (
    "Is this review positive, negative or mixed? {r}",
    "What does this review feel: positive, negative or mixed? {r}",
    "{r} Is that positive, negative or mixed?",
)


class Sentiment(Skill):
    """Level 1 is one plain clause, level 2 may deny it, level 3 joins two clauses, level 4 joins and denies."""

    name: ClassVar[str] = "sentiment"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        kind = rng.choice(list(PARTS))
        parts, good, bad = PARTS[kind]
        chosen = rng.sample(parts, 2 if level > 2 else 1)
        feelings = [rng.random() < 0.5 for _ in chosen]
        clauses = []
        for part, feeling in zip(chosen, feelings, strict=True):
            denied = level in (2, 4) and rng.random() < 0.6
            word = rng.choice((good if feeling != denied else bad).split())
            clauses.append(f"the {part} was {_degree(rng, denied)}{word}")
        label = "mixed" if len(set(feelings)) == 2 else "positive" if feelings[0] else "negative"
        link = (
            rng.choice((" and ", ", and ", " while "))
            if label != "mixed"
            else rng.choice((", but ", " and ", " while "))
        )
        where = f"About the {kind} in {rng.choice(world.places()).name}: "
        return asked(rng.choice(ASKED).format(r=f"{where}{link.join(clauses)}."), label, label)

    def verify(self, row: Row, text: str) -> bool:
        return plain(text) == row["answer"]


def _degree(rng: random.Random, denied: bool) -> str:
    return rng.choice(("not ", "never ", "not at all ")) if denied else rng.choice(("", "very ", "really ", "quite "))
