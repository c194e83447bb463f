"""Which characters of a text each of its tokens stands for, told from the token ids alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

BROKEN = "\ufffd"
"""Stands in decoded text for bytes that are no whole character."""


class Spelled(NamedTuple):
    """The text of a sequence of tokens, and the characters [start, end) of it that each token stands for.

    Tokens that share a character all have it; a special token has none, and stands where it begins.
    """

    text: str
    offsets: list[tuple[int, int]]


Speller = Callable[[Sequence[int]], Spelled]


def spelled(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Spelled:
    """The text of `ids` and what each token adds to it, by decoding each together with what stands before it.

    Decoding a token alone would lose blanks that depend on the token before, and characters made of several tokens.
    """
    text, offsets = "", list[tuple[int, int]]()
    before, begun = 0, 0  # the tokens read last, and the first of those that make up the present character
    for index in range(len(ids)):
        known, more = decode(ids[before:begun]), decode(ids[before : index + 1])
        if more.endswith(BROKEN) and index + 1 < len(ids):
            continue
        own = (len(text), len(text) + len(more) - len(known))
        text += more[len(known) :]
        offsets += [own] * (index + 1 - begun)
        before, begun = begun, index + 1
    return Spelled(text, offsets)
