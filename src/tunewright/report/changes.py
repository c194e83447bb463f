"""What differs between two answers, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

MOST_WORDS = 4000

# Scripts without spaces are compared character by character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|\s+|[^\w\s]")


class Piece(NamedTuple):
    """A stretch of text and whether the other side lacks it."""

    text: str
    differs: bool


def compare(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts cut into stretches that the other has too and stretches that it lacks.

    Texts of more than `MOST_WORDS` words are not compared: the time grows with the square of the length.
    """
    left, right = _WORD.findall(before), _WORD.findall(after)
    if max(len(left), len(right)) > MOST_WORDS:
        return [Piece(before, False)], [Piece(after, False)]
    pieces: tuple[list[Piece], list[Piece]] = ([], [])
    for tag, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, words in zip(pieces, (left[i:j], right[k:m]), strict=True):
            text = "".join(words)
            if text:
                _add(side, Piece(text, tag != "equal" and not text.isspace()))
    return pieces


def _add(pieces: list[Piece], piece: Piece) -> None:
    """Appends `piece`; a blank between two words that both differ joins them to one stretch."""
    if piece.differs and len(pieces) > 1 and pieces[-1].text.isspace() and pieces[-2].differs:
        blank, first = pieces.pop(), pieces.pop()
        piece = Piece(first.text + blank.text + piece.text, True)
    pieces.append(piece)
