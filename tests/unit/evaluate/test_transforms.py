"""Texts written otherwise and back."""

from __future__ import annotations

import json
import random
import string

import pytest

from tunewright.errors import BadInput
from tunewright.evaluate.transforms import CIPHERS, read_words, word_table

PAIRS = {"cat": "meko", "dog": "bavo", "a": "zu", "the": "l", "stray": "ing"}
TRANSFORMS = {**CIPHERS, "words": word_table(PAIRS)}


def texts(count: int) -> list[str]:
    """Random printable strings, half of them of words with hyphens, digits and signs."""
    rng = random.Random(0)
    words = [
        *PAIRS,
        *PAIRS.values(),
        "string",
        "gstrin",
        "ing-stray",
        "rhythm",
        "ay",
        "A",
        "Cat",
        "DOG",
        "tHe",
        "-",
        "3-ay",
    ]
    made = []
    for number in range(count):
        if number % 2:
            made.append("".join(rng.choice(string.printable) for _ in range(rng.randrange(60))))
        else:
            made.append("".join(rng.choice(words) + rng.choice([" ", "-", "", "7", "!", "\n"]) for _ in range(12)))
    return made


@pytest.mark.parametrize("name", TRANSFORMS)
def test_back_undoes_there(name: str) -> None:
    transform = TRANSFORMS[name]
    made = [*texts(1000), "", "-", "ing-stray", "ay-ay", "naïve Ωmega-straße", "I", "ẞ ŉ ǅ"]
    assert [text for text in made if transform.back(transform.there(text)) != text] == []
    assert sum(transform.there(text) != text for text in made) > 500


def test_examples() -> None:
    assert CIPHERS["leet"].there("What is 3 + 4? $5") == "Wh@^ !$ 3 + 4? s5"
    assert CIPHERS["pig_latin"].there("string of rhythm 12") == "ing-stray of-ay rhythm-ay 12"
    assert CIPHERS["pig_latin"].there("gstrin") != CIPHERS["pig_latin"].there("string")
    assert CIPHERS["caesar"].there("xyz Abc-1") == "abc Def-1"
    assert TRANSFORMS["words"].there("A cat, THE Dog; bavo") == "Zu meko, THE Bavo; dog"


def test_a_file_of_words(tmp_path) -> None:
    (tmp_path / "words.json").write_text(json.dumps(PAIRS))
    (tmp_path / "words.yaml").write_text("cat: meko\n")
    for name in ("words.json", "words.yaml"):
        assert read_words(tmp_path / name).there("cat") == "meko"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"cat": "dog", "dog": "bavo"}', "twice"), ('{"a": "x", "b": "x"}', "twice"), ('{"two words": "x"}', "not a word"),
        ('{"cat": 3}', "not a word"), ("[cat]", "table"), ("{}", "table"), ("{cat", "cannot be read"),
    ],
)  # fmt: skip
def test_a_table_without_an_inverse_is_refused(tmp_path, content: str, reason: str) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(content)
    with pytest.raises(BadInput, match=reason) as refused:
        read_words(file)
    assert str(file) in str(refused.value)
