"""Texts written otherwise and back: exact inverses on any text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tunewright.errors import BadInput

Change = Callable[[str], str]


class Transform(NamedTuple):
    """`there` writes a text otherwise; `back` undoes it: back(there(text)) == text for every text."""

    there: Change
    back: Change


def _leet() -> Transform:
    """Letters swapped with signs, both ways: a @, e &, i !, s $, t ^. Digits stay, or sums would change."""
    swap = str.maketrans("aeist@&!$^", "@&!$^aeist")
    return Transform(lambda text: text.translate(swap), lambda text: text.translate(swap))


def _caesar() -> Transform:
    """Letters three places on in the alphabet."""
    small, large = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    plain, moved = small + large, small[3:] + small[:3] + large[3:] + large[:3]
    there, back = str.maketrans(plain, moved), str.maketrans(moved, plain)
    return Transform(lambda text: text.translate(there), lambda text: text.translate(back))


_CONSONANTS = "[b-df-hj-np-tv-zB-DF-HJ-NP-TV-Z]*"
_RUN = re.compile(f"({_CONSONANTS})([A-Za-z]*)")
_MOVED = re.compile(f"([A-Za-z]+)-({_CONSONANTS})ay")


def _pig_latin() -> Transform:
    """The leading consonants of every run of letters behind a hyphen and before "ay": string, ing-stray.

    A run without vowels is kept, and gets "-ay". Without the hyphen "string" and "gstrin" would be the same.
    """

    def moved(run: re.Match[str]) -> str:
        if not run[0]:
            return ""
        return f"{run[2]}-{run[1]}ay" if run[2] else f"{run[1]}-ay"

    return Transform(lambda text: _RUN.sub(moved, text), lambda text: _MOVED.sub(r"\2\1", text))


CIPHERS: dict[str, Transform] = {"leet": _leet(), "pig_latin": _pig_latin(), "caesar": _caesar()}
"""The transforms that need no file."""

_WORD = re.compile(r"[^\W\d_]+")


def word_table(pairs: Mapping[str, str]) -> Transform:
    """Words swapped with those of another language, both ways, in the case in which they stand; others stay.

    Raises `BadInput` for a word that stands twice, and for one that is not letters alone.
    """
    partner: dict[str, str] = {}
    for pair in pairs.items():
        for word, other in (pair, pair[::-1]):
            if not isinstance(word, str) or not _WORD.fullmatch(word) or word != word.lower():
                raise BadInput("not a word", found=word, expected="small letters alone")
            if word in partner:
                raise BadInput("the word stands twice", found=word, expected="every word once, on one side")
            partner[word] = other

    def swapped(word: str) -> str:
        case = next((case for case in (str.lower, str.capitalize, str.upper) if case(word) == word), None)
        other = partner.get(word.lower())
        return case(other) if case and other else word

    def exact(found: re.Match[str]) -> str:
        word = found[0]
        # A case that the partner cannot show, as of one letter, would not come back.
        return swapped(word) if swapped(swapped(word)) == word else word

    change = lambda text: _WORD.sub(exact, text)
    return Transform(change, change)


def read_words(path: Path) -> Transform:
    """The transform of a JSON or YAML file that maps words to words. Raises `BadInput` for a file that does not."""
    try:
        found: Any = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise BadInput(f"cannot be read as JSON or YAML: {' '.join(str(error).split())}", file=path) from None
    if not isinstance(found, Mapping) or not found:
        raise BadInput("not a table of words", file=path, found=found, expected="{word: word of the other language}")
    try:
        return word_table(found)
    except BadInput as error:
        raise BadInput(error.message, file=path, found=error.found, expected=error.expected) from None
