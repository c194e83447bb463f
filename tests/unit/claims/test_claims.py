"""The rule of judgement, the board, and what every claim must declare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tunewright import board, catalog
from tunewright.claims.base import Claim, Criterion, Judgement, decide, judge, overall
from tunewright.errors import BadInput


@pytest.mark.parametrize(
    ("expected", "bound", "low", "high", "verdict"),
    [
        ("above", 1.0, 1.1, 3.0, "holds"),
        ("above", 1.0, 0.5, 3.0, "undecided"),
        ("above", 1.0, -1.0, 0.9, "does not hold"),
        ("below", -1.0, -3.0, -1.1, "holds"),
        ("below", -1.0, -0.9, 3.0, "does not hold"),
        ("below", -1.0, -3.0, 0.0, "undecided"),
        ("within", 0.5, -0.4, 0.3, "holds"),
        ("within", 0.5, -0.6, 0.3, "undecided"),
        ("within", 0.5, 0.6, 0.9, "does not hold"),
        ("within", 0.5, -0.9, -0.6, "does not hold"),
    ],
)
def test_an_interval_decides(expected: str, bound: float, low: float, high: float, verdict: str) -> None:
    assert decide(expected, bound, low, high) == verdict


def test_few_values_are_judged_by_students_interval() -> None:
    found = judge(Criterion("gain", "above", 0.0, "points"), [1.0, 2.0, 3.0, 4.0])
    reach = 3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert (found.effect, found.low, found.high) == pytest.approx((2.5, 2.5 - reach, 2.5 + reach), abs=1e-5)
    assert found.verdict == "holds" and found.n == 4
    for wrong in ([1.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="two finite values"):
            judge(Criterion("gain", "above", 0.0, "points"), wrong)


def judgement(verdict: str) -> Judgement:
    return Judgement(
        quantity="q", expected="above", bound=0, unit="points", effect=1, low=0, high=2, n=3, verdict=verdict
    )


def test_one_criterion_that_fails_refutes_the_claim() -> None:
    told = lambda *verdicts: overall([judgement(one) for one in verdicts])
    assert told("holds", "holds") == "holds"
    assert told("holds", "undecided") == "undecided"
    assert told("holds", "undecided", "does not hold") == "does not hold"


def test_every_claim_is_declared_whole() -> None:
    kinds = {"adapters", "data", "evaluate", "models", "objectives", "optimize", "quantize", "regularize", "search"}
    for cls in catalog.methods("claim"):
        assert issubclass(cls, Claim) and cls.about() in kinds
        assert cls.sentence.endswith(".") and len(cls.arms) >= 2 and cls.budget and cls.seeds >= 1
        assert cls.criteria and len({one.quantity for one in cls.criteria}) == len(cls.criteria)
        assert all(one.expected in ("above", "below", "within") for one in cls.criteria)
        assert all(paper.card for paper in cls.papers), cls.name


def test_kept_results_are_of_claims_and_their_verdicts_follow_from_their_intervals() -> None:
    files = sorted(board.RESULTS.glob("*.json"))
    assert files and {file.stem for file in files} <= set(catalog.names("claim"))
    for file in files:
        found = board.Result.model_validate_json(file.read_bytes())
        cls = catalog.find("claim", found.claim)
        for one, criterion in zip(found.criteria, cls.criteria, strict=True):  # type: ignore[attr-defined]
            assert one.verdict == decide(one.expected, one.bound, one.low, one.high)
            if found.digest == cls.digest():  # type: ignore[attr-defined]
                assert (one.quantity, one.expected, one.bound, one.unit) == tuple(criterion)
        assert found.verdict == overall(found.criteria) and found.versions["torch"] and found.date


CLAIM = '''
from typing import ClassVar
from tunewright.claims.base import Claim, Criterion, Findings

class Coin(Claim):
    """A coin falls."""
    kind: ClassVar[str] = "claim"
    name: ClassVar[str] = "coin"
    sentence: ClassVar[str] = "A coin falls."
    arms: ClassVar = {"heads": "one side", "tails": "the other"}
    criteria: ClassVar = (Criterion("gain", "above", 0.5, "points"),)
    seeds: ClassVar[int] = 3
    budget: ClassVar[str] = "none"

    def findings(self, bench):
        bench.note("heads", 3, 6)
        return Findings({"gain": [1.0, 1.1, 1.2]}, {"told": 1})
'''


@pytest.fixture
def coin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalog, "_added", {})
    file = tmp_path / "coin.py"
    file.write_text(CLAIM)
    catalog.use(file)
    return file


def test_a_claim_is_run_kept_and_listed(coin: Path, tmp_path: Path) -> None:
    row = lambda: next(row for row in board.listed(tmp_path / "kept") if row["name"] == "coin")
    assert row()["verdict"] is None and row()["effect"] is None
    found = board.run("coin", tmp_path / "kept")
    assert found.verdict == "holds" and found.spent["heads"].model_dump() == {"steps": 3, "tokens": 0, "examples": 6}
    assert set(row()) == {
        "name", "paper", "kind", "sentence", "verdict", "effect", "low", "high", "unit", "seeds", "seconds", "date"
    }  # fmt: skip
    assert row()["verdict"] == "holds" and row()["effect"] == pytest.approx(1.1) and row()["unit"] == "points"
    kept = json.loads((tmp_path / "kept" / "coin.json").read_text())
    assert "virtual cores" in kept["machine"] and kept["criteria"][0]["n"] == 3


def test_a_result_of_another_declaration_is_stale(coin: Path, tmp_path: Path) -> None:
    board.run("coin", tmp_path)
    file = tmp_path / "coin.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "digest": "0" * 16}))
    assert board.result("coin", tmp_path) is None
    file.write_text("{}")
    with pytest.raises(BadInput, match="not the result of a claim"):
        board.result("coin", tmp_path)


def test_which_claims_must_be_said_once() -> None:
    assert board.chosen(every=True) == catalog.names("claim")
    assert "nf4_error" in board.chosen(about="quantize") and "packing" not in board.chosen(about="quantize")
    for wrong in ({}, {"names": ["packing"], "every": True}, {"about": "adapter"}, {"names": ["pakking"]}):
        with pytest.raises(BadInput):
            board.chosen(**wrong)  # type: ignore[arg-type]
