"""What a comparison says of its own test: noise pooled over arms, the items, and fewer items in place of all."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.comparison.reliability import reliability


def test_noise_is_pooled_over_arms_and_items_are_listed(outcome) -> None:
    rng = np.random.default_rng(0)
    level = rng.uniform(0.1, 0.9, 40)
    values = {name: (rng.random((4, 40)) < level).astype(float) for name in ("a", "b")}
    for one in values.values():
        one[:, 7] = 0.0
    found = reliability(outcome(values))
    variances = [one.mean(1).var(ddof=1) for one in values.values()]
    assert found["sigma"] == pytest.approx(np.sqrt(np.mean(variances)))
    assert found["items"] == 40 and found["trimmed"]["items"] == 32
    assert found["anchored"]["items"] == 4 and found["anchored"]["distance"] >= 0
    hard = found["hardest"][0]
    assert hard["difficulty"] == 0.0 and hard["discrimination"] == 0.0
    assert len(found["hardest"]) == len(found["weakest"]) == 10
    sharp = [one["discrimination"] for one in found["weakest"]]
    assert sharp == sorted(sharp)


def test_graded_scores_have_no_response_model(outcome) -> None:
    rng = np.random.default_rng(1)
    found = reliability(outcome({name: rng.normal(size=(4, 40)) for name in ("a", "b")}, False))
    assert found["anchored"] is None
    assert found["hardest"][0]["difficulty"] == max(one["difficulty"] for one in found["hardest"])
