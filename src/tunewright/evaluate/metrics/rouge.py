"""ROUGE-L: the longest common subsequence of words (Lin, 2004)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


def rouge_l(answer: str, reference: str) -> float:
    """F = 2 P R / (P + R) with P = L / words of the answer, R = L / words of the reference, 0 to 1.

    L is the length of the longest common subsequence of lower-case words; 0 where either text has no word.
    """
    a, b = _WORD.findall(answer.lower()), _WORD.findall(reference.lower())
    if not a or not b:
        return 0.0
    return 2 * common_subsequence(a, b) / (len(a) + len(b))


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence of two word lists."""
    # One bit per word of `a`: a cleared bit marks where the longest length grows (Hyyro, 2004).
    places: dict[str, int] = {}
    for index, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hit = row & places.get(word, 0)
        row = (row + hit | row - hit) & full
    return len(a) - row.bit_count()
