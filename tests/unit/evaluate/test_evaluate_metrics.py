"""Metrics: values worked out by hand."""

from __future__ import annotations

import random
from decimal import Decimal

import numpy as np
import pytest

from tunewright.evaluate.metrics.answers import (
    check_rule,
    exact_match,
    extract,
    normalized,
    number_match,
    numbers,
    plain_number,
)  # fmt: skip
from tunewright.evaluate.metrics.calibration import brier, expected_calibration_error
from tunewright.evaluate.metrics.lengths import length_summary
from tunewright.evaluate.metrics.rouge import common_subsequence, rouge_l


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10-5, -3 and 1,234.50 or .5", ["10", "5", "-3", "1234.50", "0.5"]),
        ("12,34 and 1,234,567 and 1,2345", ["12", "34", "1234567", "1", "2345"]),
        ("costs $1,000! x-7 (\u22128)", ["1000", "7", "-8"]),
        ("3.0. then 1e3", ["3.0", "1E+3"]),
        ("none", []),
    ],
)
def test_numbers(text: str, found: list[str]) -> None:
    assert [str(number) for number in numbers(text)] == found


@pytest.mark.parametrize(("number", "text"), [("1200.50", "1200.5"), ("1E+3", "1000"), ("-0.0", "0"), ("100", "100")])
def test_plain_number(number: str, text: str) -> None:
    assert plain_number(Decimal(number)) == text


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("whole", "so 1,200 apples\n#### 1,200.0\n\nDone."),
        ("last_number", "1200"),
        ("last_line", "Done."),
        ("after ####", "1,200.0"),
        ("regex so ([0-9,]+)", "1,200"),
        ("regex appl..", "apples"),
        ("after %%", None),
        ("regex zzz", None),
    ],
)
def test_extract(rule: str, found: str | None) -> None:
    assert extract(" so 1,200 apples\n#### 1,200.0\n\nDone.\n", check_rule(rule)) == found


def test_extract_finds_nothing_in_nothing() -> None:
    assert extract("", "last_number") is extract(" \n", "last_line") is extract("a ####", "after ####") is None


@pytest.mark.parametrize("rule", ["last", "after", "regex", "regex (", ""])
def test_unknown_rules_are_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=r"no rule|not a regular expression"):
        check_rule(rule)


def test_quoted_mark() -> None:
    assert check_rule("after '####'") == "after ####"


def test_exact_match() -> None:
    assert normalized(" The\n Cat. ", ignore_case=True, ignore_punctuation=True) == "the cat"
    assert exact_match("a  b", " a b\n") == 1.0
    assert exact_match("A b.", "a b") == 0.0
    assert exact_match("A b.", "a b", ignore_case=True, ignore_punctuation=True) == 1.0
    assert exact_match(None, "") == 0.0


def test_number_match() -> None:
    assert number_match("it is 1,000", "1000.0") == 1.0
    assert number_match("1,001", "1000") == 0.0
    assert number_match("1,001", "1000", tolerance=0.001) == 1.0
    assert number_match("1,002", "1000", tolerance=0.001) == 0.0
    assert number_match("0.3", "0.1", tolerance=2.0) == 1.0
    assert number_match("no number", "1") == number_match(None, "1") == 0.0


def test_rouge_l() -> None:
    # Lin's example: "the gunman" is common out of order, "police ... the gunman" in order.
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(0.5)
    # L = 2, P = 2/3, R = 2/4: F = 2 * 2 / 7.
    assert rouge_l("a x b", "A, b c d!") == pytest.approx(4 / 7)
    assert rouge_l("", "a") == rouge_l("a", "...") == 0.0
    assert rouge_l("a b", "a b") == 1.0


def test_common_subsequence_equals_the_textbook_table() -> None:
    rng = random.Random(0)
    for _ in range(100):
        a, b = ([rng.choice("abc") for _ in range(rng.randrange(12))] for _ in range(2))
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
        assert common_subsequence(a, b) == table[-1][-1]


def test_calibration_error_by_hand() -> None:
    # Bins of width 0.5: {0.2, 0.4} right in 1 of 2, so |0.5 - 0.3|; {0.9} right, so |1 - 0.9|.
    assert expected_calibration_error([0.2, 0.4, 0.9], [0, 1, 1], bins=2) == pytest.approx(2 / 3 * 0.2 + 1 / 3 * 0.1)
    # Two bins of equal mass: {0.1, 0.2} and {0.3, 0.4}.
    mass = expected_calibration_error([0.3, 0.1, 0.4, 0.2], [1, 0, 1, 0], bins=2, equal="mass")
    assert mass == pytest.approx(0.5 * 0.15 + 0.5 * 0.65)
    assert expected_calibration_error([1.0, 1.0], [1, 1]) == 0.0
    assert expected_calibration_error([1.0, 1.0], [0, 0]) == 1.0


def test_calibrated_answers_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 20000)
    assert expected_calibration_error(confidence, rng.uniform(size=20000) < confidence) < 0.02


def test_brier_by_hand() -> None:
    assert brier([[0.7, 0.3], [0.2, 0.8]], [0, 0]) == pytest.approx((2 * 0.09 + 2 * 0.64) / 2)


def test_length_summary() -> None:
    assert length_summary([0, 2, 4, 10]) == pytest.approx({"mean": 4.0, "median": 3.0, "p95": 9.1, "empty": 0.25})
