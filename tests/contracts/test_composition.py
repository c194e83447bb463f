"""Methods of different kinds compose: at least 500 combinations train, and what is refused says why."""

from itertools import islice

import pytest

from tunewright.recipe.composition import with_traits
from tunewright.testing.composition import combinations, label, refusals, trains

COUNT, PARTS = 520, 8


@pytest.fixture(scope="module")
def allowed():
    return list(islice((chosen for chosen in combinations() if not refusals(chosen)), COUNT))


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_allowed_trains(part, allowed):
    assert len({label(chosen) for chosen in allowed}) == COUNT
    failed = {}
    for chosen in allowed[part::PARTS]:
        try:
            trains(chosen)
        except Exception as error:
            failed[label(chosen)] = f"{type(error).__name__}: {error}"
    assert not failed, "\n".join(f"{name}: {why}" for name, why in failed.items())


def test_what_is_refused_names_the_reason_and_what_to_write_instead():
    refused = [(chosen, refusals(chosen)) for chosen in islice(combinations(1), 400)]
    found = [(chosen, clash) for chosen, all_of in refused for clash in all_of]
    assert len(found) > 20
    for chosen, clash in found:
        kind = str(clash.place[0])
        assert chosen[kind].name in clash.reason and clash.hint
        if clash.hint.startswith("Use "):
            offered = clash.hint.removeprefix("Use ").removesuffix(".").split(" or ")
            assert chosen[kind].name not in offered and set(offered) <= set(with_traits(kind, ()))
