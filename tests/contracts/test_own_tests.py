"""Every method has a test of its own beside the contract of its kind; tests can be collected in any order."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tunewright import catalog
from tunewright.standing import own_test

TESTS = Path(__file__).parents[1]
SOURCES = {file: file.read_text() for file in TESTS.rglob("*.py")}

METHODS = [(kind, name) for kind in catalog.ROOMS if kind != "claim" for name in catalog.names(kind)]
"""A claim is a test itself: of what a paper says about methods."""


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=[f"{kind} {name}" for kind, name in METHODS])
def test_a_method_has_a_test_of_its_own(kind, name):
    assert own_test(catalog.find(kind, name)), f"nothing below tests/unit tests the {kind} '{name}': add test_{name}.py"


def test_modules_of_tests_have_names_of_their_own():
    """Each folder of tests is a place to import from, so that a name twice would mean whichever came first."""
    names = Counter(file.stem for file in SOURCES if file.stem != "conftest")
    assert [name for name, count in names.items() if count > 1] == []


def test_nothing_is_imported_from_a_conftest():
    importing = re.compile(r"^\s*(from conftest import|import conftest)", re.M)
    assert [str(file) for file, text in SOURCES.items() if importing.search(text)] == []
