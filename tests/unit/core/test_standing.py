"""Maturity follows from contract, test and verdicts, and says what is missing."""

from __future__ import annotations

import pytest

from tunewright import catalog, standing


@pytest.fixture
def board(monkeypatch):
    """Makes the board say these verdicts of card 122 (PiSSA's)."""

    def said(*verdicts):
        rows = [{"name": f"c{k}", "paper": {"card": 122, "title": "t"}, "verdict": v} for k, v in enumerate(verdicts)]
        monkeypatch.setattr(standing, "_claims", lambda: rows)

    return said


@pytest.mark.parametrize(
    ("verdicts", "maturity"),
    [
        ((), "unproven"),
        (("undecided",), "unproven"),
        ((None,), "unproven"),
        (("does not hold",), "proven"),
        (("undecided", "holds"), "proven"),
    ],
)
def test_a_paper_counts_once_a_claim_of_it_is_judged(board, verdicts, maturity) -> None:
    board(*verdicts)
    found = standing.standing(catalog.find("adapter", "pissa"))
    assert found["maturity"] == maturity
    assert found["missing"] == ([] if maturity == "proven" else ["claim verdict"])
    assert [one["verdict"] for one in found["claims"]] == list(verdicts)
    assert found["property_test"] == "tests/unit/adapters/test_pissa.py"


def test_what_is_missing_is_named(board, monkeypatch) -> None:
    board()
    monkeypatch.setattr(standing, "CONTRACTS", {})
    monkeypatch.setattr(standing, "_sources", dict)
    found = standing.standing(catalog.find("adapter", "pissa"))
    assert found["missing"] == ["contract", "property test", "claim verdict"] and not found["contract"]


def test_a_method_without_a_card_needs_no_claim(board) -> None:
    board()
    assert standing.standing(catalog.find("optimizer", "adamw"))["maturity"] == "proven"
