"""Velmic, the world's second language: regular, so that a translation is right or wrong.

The rules: the verb comes last and the object before it; an adjective follows its noun; a plural noun ends in `-ni`, an
object (after the plural) in `-m`; the past of a verb ends in `-du`. There are no articles; English always uses `the`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tunewright.nanoworld import words
from tunewright.nanoworld.seeds import stream

ADJECTIVES = ("red", "old", "small", "happy", "green", "tall", "lazy", "young", "blue", "brave", "thin", "clever")
NOUNS = (
    *("fox", "bear", "child", "baker", "bird", "river", "house", "apple", "king", "dog", "boat", "tree"),
    *("cat", "farmer", "queen", "horse", "garden", "lamp", "wolf", "nurse", "bridge", "plum", "goat", "drum"),
)
VERBS: dict[str, tuple[str, str]] = {
    "see": ("sees", "saw"),
    "find": ("finds", "found"),
    "carry": ("carries", "carried"),
    "love": ("loves", "loved"),
    "paint": ("paints", "painted"),
    "follow": ("follows", "followed"),
    "wash": ("washes", "washed"),
    "hide": ("hides", "hid"),
    "buy": ("buys", "bought"),
    "draw": ("draws", "drew"),
}
QUIET_VERBS: dict[str, tuple[str, str]] = {
    "sleep": ("sleeps", "slept"),
    "sing": ("sings", "sang"),
    "run": ("runs", "ran"),
    "laugh": ("laughs", "laughed"),
    "wait": ("waits", "waited"),
    "dance": ("dances", "danced"),
}


@dataclass(frozen=True)
class Phrase:
    """A noun with perhaps an adjective, one or many."""

    noun: str
    adjective: str = ""
    many: bool = False

    def english(self) -> str:
        noun = {"child": "children", "wolf": "wolves"}.get(self.noun) if self.many else self.noun
        return " ".join(filter(None, ("the", self.adjective, noun or words.plural(self.noun))))

    def velmic(self, case: str = "") -> str:
        noun = vocabulary()[self.noun] + ("ni" if self.many else "") + case
        return f"{noun} {vocabulary()[self.adjective]}" if self.adjective else noun


@dataclass(frozen=True)
class Sentence:
    """Somebody does something, perhaps to somebody or something, now or before."""

    subject: Phrase
    verb: str
    object: Phrase | None = None
    past: bool = False

    def english(self) -> str:
        third, past = (VERBS | QUIET_VERBS)[self.verb]
        verb = past if self.past else self.verb if self.subject.many else third
        parts = [self.subject.english(), verb, *([self.object.english()] if self.object else [])]
        text = " ".join(parts)
        return text[0].upper() + text[1:] + "."

    def velmic(self) -> str:
        verb = vocabulary()[self.verb] + ("du" if self.past else "")
        parts = [self.subject.velmic(), *([self.object.velmic("m")] if self.object else []), verb]
        text = " ".join(parts)
        return text[0].upper() + text[1:] + "."


@cache
def vocabulary() -> dict[str, str]:
    """English word -> Velmic word, all different. Nouns end in -o, adjectives in -e, verbs in -a."""
    taken: set[str] = set()
    book: dict[str, str] = {}
    for ending, group in (("o", NOUNS), ("e", ADJECTIVES), ("a", (*VERBS, *QUIET_VERBS))):
        for word in group:
            book[word] = next(new for new in _candidates(word, ending) if new not in taken)
            taken.add(book[word])
    return book


def _candidates(word: str, ending: str) -> Iterator[str]:
    rng = stream("velmic", word)
    while True:
        yield rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") + rng.choice("bdfgklmnprstvz") + ending
