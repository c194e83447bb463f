"""Translation between English and Velmic, both ways."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from tunewright.nanoworld import language
from tunewright.nanoworld.language import Phrase, Sentence
from tunewright.nanoworld.skill import Row, Skill, asked, plain

ASKED = ("Translate to {to}: {t}", "Say this in {to}: {t}", "How do you say this in {to}? {t}")


class Translation(Skill):
    """Level 1 is a phrase, level 2 a short sentence, both of the common half of the words; level 3 is a sentence with
    an object, level 4 adds adjectives and plurals, both of all words."""

    name: ClassVar[str] = "translation"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        thing = _phrase(rng, level) if level == 1 else _sentence(rng, level)
        english, velmic = thing.english(), thing.velmic()
        if rng.random() < 0.5:
            return asked(rng.choice(ASKED).format(to="Velmic", t=english), velmic, velmic)
        return asked(rng.choice(ASKED).format(to="English", t=velmic), english, english)

    def verify(self, row: Row, text: str) -> bool:
        return plain(text) == plain(row["answer"])


def _known(every: Sequence[str], level: int) -> Sequence[str]:
    return every[: len(every) // 2] if level < 3 else every


def _phrase(rng: random.Random, level: int) -> Phrase:
    adjective = rng.choice(_known(language.ADJECTIVES, level)) if level != 3 and rng.random() < 0.6 else ""
    return Phrase(rng.choice(_known(language.NOUNS, level)), adjective, level != 3 and rng.random() < 0.4)


def _sentence(rng: random.Random, level: int) -> Sentence:
    quiet = level == 2 and rng.random() < 0.5
    verbs = list(language.QUIET_VERBS if quiet else language.VERBS)
    verb = rng.choice(_known(verbs, level))
    if level == 2:
        subject, target = Phrase(rng.choice(_known(language.NOUNS, 2))), Phrase(rng.choice(_known(language.NOUNS, 2)))
    else:
        subject, target = _phrase(rng, level), _phrase(rng, level)
    return Sentence(subject, verb, None if quiet else target, past=rng.random() < 0.4)
