"""Other prompts with the same meaning: formats of the fields, choices by letter, and misspellings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from string import ascii_uppercase

from tunewright.data.records import Record
from tunewright.errors import BadInput

SEPARATORS = ("", " ", ": ", ":: ", "::: ", " : ", " - ", "- ", ":", "::", "\n", "\n\t", ":\n", "\t")
SPACES = (" ", "  ", "\n", "\n\n", " -- ", "; \n", " || ", " <sep> ", ", ", ". ")
DESCRIPTORS = (("Question", "Answer"), ("Input", "Output"), ("Text", "Answer"), ("Problem", "Solution"), ("Q", "A"))
CASINGS = ("as it is", "title", "upper", "lower")


@dataclass(frozen=True)
class Format:
    """How the parts of a prompt are put together: DESCRIPTOR SEPARATOR text SPACE DESCRIPTOR SEPARATOR.

    The text itself is never changed. Without descriptors the prompt stays as it is.
    """

    descriptors: tuple[str, str] | None = None
    separator: str = ""
    space: str = ""
    casing: str = "as it is"

    def __str__(self) -> str:
        return repr(self.put("TEXT"))[1:-1] if self.descriptors else "as it is"

    def put(self, text: str) -> str:
        """The text in this format."""
        if self.descriptors is None:
            return text
        asked, answered = (_cased(word, self.casing) for word in self.descriptors)
        return f"{asked}{self.separator}{text}{self.space}{answered}{self.separator}"

    def record(self, record: Record) -> Record:
        """The record with the last turn of its prompt in this format."""
        *before, asked, answer = record.turns
        return replace(record, turns=(*before, replace(asked, content=self.put(asked.content)), answer))


ORIGINAL = Format()


def formats(count: int, seed: int = 0) -> list[Format]:
    """The original and `count` - 1 others, drawn uniformly from the valid ones; no two write the same prompt.

    A line end in the separator needs one in the space, or fields would run into each other.
    """
    valid: dict[str, Format] = {}
    for words, separator, space, casing in product(DESCRIPTORS, SEPARATORS, SPACES, CASINGS):
        if "\n" not in separator or "\n" in space:
            made = Format(words, separator, space, casing)
            valid.setdefault(made.put("\0"), made)
    return [ORIGINAL, *random.Random(seed).sample(list(valid.values()), count - 1)]


def lettered(record: Record, choices: Sequence[str]) -> tuple[Record, list[str]]:
    """The record with its choices listed under letters behind the prompt, and the answers to choose among.

    The last turn of the prompt becomes TEXT, a line "A. CHOICE" for each, and the line "Answer:". Where prompt and
    answer are joined verbatim the answers are " A", " B", ..., in a chat "A", "B", ... Raises `BadInput` for more
    choices than letters, and for a row of plain text, which has no prompt.
    """
    if not record.prompt or len(choices) > len(ascii_uppercase):
        raise BadInput(
            "the choices of the row cannot be listed under letters", file=record.file or None, line=record.line or None,
            found=f"{len(choices)} choices" if record.prompt else "plain text", expected="a prompt and at most 26 choices",
        )  # fmt: skip
    *before, asked, answer = record.turns
    letters = ascii_uppercase[: len(choices)]
    listed = "\n".join(f"{letter}. {choice.strip()}" for letter, choice in zip(letters, choices, strict=True))
    made = replace(asked, content=f"{asked.content.rstrip()}\n{listed}\nAnswer:")
    space = " " if record.style == "completion" else ""
    return replace(record, turns=(*before, made, answer)), [space + letter for letter in letters]


def misspelt(text: str, rate: float, rng: random.Random) -> str:
    """The text with about `rate` of its letters swapped with their neighbour, doubled or dropped, at least one.

    Digits and signs stay, since they carry the meaning of a task.
    """
    letters = [place for place, sign in enumerate(text) if sign.isalpha()]
    if not letters:
        return text
    wrong = set(rng.sample(letters, max(1, round(rate * len(letters)))))
    signs = list(text)
    for place in sorted(wrong, reverse=True):
        kind = rng.choice(("swap", "double", "drop"))
        if kind == "swap" and place + 1 < len(text) and text[place + 1].isalpha():
            signs[place], signs[place + 1] = signs[place + 1], signs[place]
        elif kind == "drop":
            del signs[place]
        else:
            signs.insert(place, signs[place])
    return "".join(signs)


def misspelling(record: Record, rate: float, rng: random.Random) -> Record:
    """The record with the last turn of its prompt misspelt."""
    *before, asked, answer = record.turns
    return replace(record, turns=(*before, replace(asked, content=misspelt(asked.content, rate, rng)), answer))


def answerable(records: Sequence[Record]) -> bool:
    """Whether every record has a prompt in words and an answer."""
    return all(record.style != "text" and record.prompt and record.answer.strip() for record in records)


def _cased(word: str, casing: str) -> str:
    return {"title": word.title, "upper": word.upper, "lower": word.lower}.get(casing, lambda: word)()
