"""How far a method can be believed: its contract, its own test, and what the claims of its papers came to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tunewright import board, catalog
from tunewright.catalog import Method
from tunewright.testing import CONTRACTS

TESTS = Path(__file__).parents[2] / "tests"
"""The tests of a checkout; an installed package has none."""


def standing(method: type[Method]) -> dict[str, Any]:
    """What is known of a method: `contract` (whether its kind has one), `property_test` (its own test's file, None where
    none is found), `claims` (those of its papers, with verdicts), `maturity` and what is `missing`.

    A method is `proven` when its kind has a contract, it has a test of its own, and every paper that has a card has a
    claim with a verdict that is not undecided; else `unproven`. Tasks have their options alone as contract.
    """
    cards = {paper.card for paper in method.papers if paper.card is not None}
    claims = [row for row in _claims() if row["paper"] is not None and row["paper"]["card"] in cards]
    judged = {row["paper"]["card"] for row in claims if row["verdict"] in ("holds", "does not hold")}
    test = own_test(method)
    contract = method.kind in CONTRACTS or method.kind == "task"
    missing = [] if contract else ["contract"]
    missing += [] if test is not None else ["property test"]
    missing += [] if cards <= judged else ["claim verdict"]
    return {
        "contract": contract,
        "property_test": test,
        "claims": [{"name": row["name"], "verdict": row["verdict"]} for row in claims],
        "maturity": "unproven" if missing else "proven",
        "missing": missing,
    }


def own_test(method: type[Method]) -> str | None:
    """The file below `tests/unit` that tests the method: of its name, or one that makes it (by its class, or by its name
    in quotes behind a bracket); relative to the checkout."""
    made = re.compile(rf"\b{method.__name__}\(|\((?:\"{method.kind}\", )?\"{method.name}\"[,)]")
    found = [path for path, text in _sources().items() if path.stem == f"test_{method.name}" or made.search(text)]
    found.sort(key=lambda path: (path.stem != f"test_{method.name}", path))
    return found[0].relative_to(TESTS.parent).as_posix() if found else None


@cache
def _sources() -> Mapping[Path, str]:
    return {file: file.read_text(encoding="utf-8") for file in (TESTS / "unit").rglob("test_*.py")}


@cache
def _claims() -> list[dict[str, Any]]:
    return board.listed()


def counted() -> dict[str, int]:
    """How many methods are proven and unproven, claims not counted."""
    kinds = [kind for kind in catalog.ROOMS if kind != "claim"]
    found = [standing(method)["maturity"] for kind in kinds for method in catalog.methods(kind)]
    return {name: found.count(name) for name in ("proven", "unproven")}
