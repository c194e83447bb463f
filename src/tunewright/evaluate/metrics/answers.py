"""What of a generated text counts as the answer, and when two answers are the same."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(
    r"(?:(?<![\w.)])-)?"  # a sign, not the minus of a subtraction
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:[eE][+-]?\d{1,2}(?!\d))?"
)
_PUNCTUATION = re.compile(r"[^\w\s]|_")

RULES = "whole, last_number, last_line, 'after MARK' or 'regex PATTERN'"


def extract(text: str, rule: str) -> str | None:
    """The part of `text` that counts, or None when it is not there.

    `whole` is all of it; `last_number` the last number, written plainly; `last_line` the last line that is not empty;
    `after MARK` what follows the last MARK on its line; `regex PATTERN` the last match (its first group, if any).
    """
    if rule == "whole":
        return text.strip()
    if rule == "last_number":
        found = numbers(text)
        return plain_number(found[-1]) if found else None
    if rule == "last_line":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else None
    word, _, argument = rule.partition(" ")
    if word == "after":
        _, mark, tail = text.rpartition(argument)
        lines = tail.strip().splitlines()
        return lines[0].strip() if mark and lines else None
    matches = list(re.finditer(argument, text))
    return matches[-1].group(1 if matches[-1].re.groups else 0) if matches else None


def check_rule(rule: str) -> str:
    """The rule, or `ValueError` saying what is wrong with it."""
    word, _, argument = rule.partition(" ")
    argument = argument.strip("'\"") if word == "after" else argument
    if rule in ("whole", "last_number", "last_line") or (word == "after" and argument):
        return f"{word} {argument}" if argument else rule
    if word != "regex" or not argument:
        raise ValueError(f"'{rule}' is no rule; expected {RULES}")
    try:
        re.compile(argument)
    except re.error as error:
        raise ValueError(f"'{argument}' is not a regular expression: {error}") from None
    return rule


def numbers(text: str) -> list[Decimal]:
    """Every number in the text in order; commas between groups of three digits are thousands marks."""
    plain = text.replace("\u2212", "-")
    return [Decimal(match.group().replace(",", "")) for match in _NUMBER.finditer(plain)]


def plain_number(number: Decimal) -> str:
    """Without exponent, thousands marks or closing zeros: 1,200.50 is 1200.5."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def normalized(text: str, ignore_case: bool = False, ignore_punctuation: bool = False) -> str:
    """The text with white space as single spaces, and case and punctuation out of the way where asked."""
    text = _PUNCTUATION.sub(" ", text) if ignore_punctuation else text
    return " ".join((text.casefold() if ignore_case else text).split())


def exact_match(
    answer: str | None, reference: str, ignore_case: bool = False, ignore_punctuation: bool = False
) -> float:
    """1.0 when answer and reference are the same text after `normalized`, else 0.0."""
    if answer is None:
        return 0.0
    same = lambda text: normalized(text, ignore_case, ignore_punctuation)
    return float(same(answer) == same(reference))


def number_match(answer: str | None, reference: str, tolerance: float = 0.0) -> float:
    """1.0 when the last numbers of both differ by at most `tolerance` times the reference's size, else 0.0."""
    found, wanted = numbers(answer or ""), numbers(reference)
    if not found or not wanted:
        return 0.0
    return float(abs(found[-1] - wanted[-1]) <= Decimal(repr(tolerance)) * abs(wanted[-1]))
