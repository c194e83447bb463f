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
WRAPPERS = ("({})", "{}.", "{})", "{} )", "[{}]", "<{}>")
NUMBERINGS = ("1", "A", "a", "I", "i", "\u2160")
"""First items of the ways to number choices; the last is the glyph of a Roman numeral, of which there are twelve."""

GLYPHS = 12


@dataclass(frozen=True)
class Listing:
    """How choices are listed in a prompt: each as WRAPPER(number) text, joined by `separator`."""

    wrapper: str
    numbering: str
    separator: str

    def put(self, choices: Sequence[str]) -> str:
        """The choices as one text. Raises `BadInput` for more choices than the numbering has items."""
        most = {"\u2160": GLYPHS, "A": len(ascii_uppercase), "a": len(ascii_uppercase)}.get(
            self.numbering, len(choices)
        )
        if len(choices) > most:
            raise BadInput("more choices than this numbering has items", found=len(choices), expected=f"at most {most}")
        numbers = (_numbered(self.numbering, place) for place in range(1, len(choices) + 1))
        listed = (f"{self.wrapper.format(n)} {text}" for n, text in zip(numbers, choices, strict=True))
        return self.separator.join(listed)


@dataclass(frozen=True)
class Format:
    """How the parts of a prompt are put together: DESCRIPTOR SEPARATOR text SPACE DESCRIPTOR SEPARATOR.

    With a `listing`, the choices stand behind the text, with another SPACE. The text itself is never changed. Without
    descriptors the prompt stays as it is.
    """

    descriptors: tuple[str, str] | None = None
    separator: str = ""
    space: str = ""
    casing: str = "as it is"
    listing: Listing | None = None

    def __str__(self) -> str:
        return repr(self.put("TEXT", ("ONE", "TWO")))[1:-1] if self.descriptors else "as it is"

    def put(self, text: str, choices: Sequence[str] = ()) -> str:
        """The text in this format, with its choices where the format lists them."""
        if self.descriptors is None:
            return text
        asked, answered = (_cased(word, self.casing) for word in self.descriptors)
        listed = f"{self.space}{self.listing.put(choices)}" if self.listing else ""
        return f"{asked}{self.separator}{text}{listed}{self.space}{answered}{self.separator}"

    def record(self, record: Record, choices: Sequence[str] = ()) -> Record:
        """The record with the last turn of its prompt in this format."""
        *before, asked, answer = record.turns
        return replace(record, turns=(*before, replace(asked, content=self.put(asked.content, choices)), answer))


ORIGINAL = Format()


def formats(count: int, seed: int = 0, listed: int = 0) -> list[Format]:
    """The original and `count` - 1 others, drawn uniformly from the valid ones; no two write the same prompt.

    A line end in the separator needs one in the space, or fields would run into each other. With `listed`, the number
    of choices, each but the original also draws how they are listed.
    """
    valid: dict[str, Format] = {}
    for words, separator, space, casing in product(DESCRIPTORS, SEPARATORS, SPACES, CASINGS):
        if "\n" not in separator or "\n" in space:
            made = Format(words, separator, space, casing)
            valid.setdefault(made.put("\0"), made)
    rng = random.Random(seed)
    drawn = rng.sample(list(valid.values()), count - 1)
    return [ORIGINAL, *(replace(form, listing=_listing(form, listed, rng)) if listed else form for form in drawn)]


def _listing(form: Format, choices: int, rng: random.Random) -> Listing:
    """A uniform draw; a line end between choices needs one in the space."""
    numberings = NUMBERINGS if choices <= GLYPHS else NUMBERINGS[:-1]
    separators = [one for one in SPACES if "\n" not in one or "\n" in form.space]
    return Listing(rng.choice(WRAPPERS), rng.choice(numberings), rng.choice(separators))


def _numbered(numbering: str, place: int) -> str:
    """The item of a numbering at a place, the first being 1."""
    if numbering in ("A", "a", "\u2160"):
        return chr(ord(numbering) + place - 1)
    if numbering == "1":
        return str(place)
    tens, ones = divmod(place, 10)
    roman = "X" * tens + ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")[ones]
    return roman if numbering == "I" else roman.lower()


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
