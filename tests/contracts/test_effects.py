"""Each field of each method has the effect it declares."""

import pytest

from tunewright import catalog
from tunewright.testing.effects import OBSERVERS, assert_method_field_has_effect, fields_of

SHARED = {"data": "perplexity", "format": "perplexity", "fields": "perplexity", "labels": "classification"}
"""Options that every task has and reads the same way -> the task on which they are tried."""

OF_METHODS = [
    field
    for kind in OBSERVERS
    for method in catalog.methods(kind)
    for field in fields_of(method)
    if kind != "task" or SHARED.get(field.name, method.name) == method.name
]

BY_HAND: dict[str, str] = {}
"""METHOD.FIELD without a second value -> where its own test stands."""


@pytest.mark.parametrize("field", [f for f in OF_METHODS if f.label not in BY_HAND], ids=lambda field: field.label)
def test_field_of_a_method_has_its_effect(field):
    assert_method_field_has_effect(field)


def test_fields_tested_by_hand_are_those_without_a_second_value():
    assert {f.label for f in OF_METHODS if f.to is not None and f.to.second is None} == set(BY_HAND)
