"""Anchors stand for a whole test: exactly for equal items, closely for simulated ones, and they say what they cost."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from tunewright.evaluate.statistics import ItemResponse, anchors, item_response


def model(slopes, intercepts) -> ItemResponse:
    return ItemResponse(np.array(slopes, float), np.array(intercepts, float), np.zeros(2), np.ones(2))


def test_clusters_of_equal_items_give_the_exact_score() -> None:
    found = anchors(model([1, 1, 1, 2, 2, 2, 2, 2], [0, 0, 0, 3, 3, 3, 3, 3]), 2)
    assert sorted(found.weights) == pytest.approx([3 / 8, 5 / 8])
    takers = np.array([[1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1]], float)
    assert found.score(takers) == pytest.approx(takers.mean(1))
    assert len(anchors(model([1, 1], [0, 0]), 2).items) == 1, "items that cannot be told apart are one anchor"


def test_a_tenth_of_the_items_foretells_the_expected_score_better_than_a_random_tenth() -> None:
    rng = np.random.default_rng(0)
    slopes, intercepts = rng.uniform(0.5, 2.5, 120), rng.normal(0, 2.0, 120)
    p = expit(np.outer(rng.normal(size=80), slopes) + intercepts)
    takers = (rng.random(p.shape) < p).astype(float)
    chosen = anchors(item_response(takers), 12)
    assert len(set(chosen.items.tolist())) == 12 and chosen.weights.sum() == pytest.approx(1.0)
    error = lambda guess: np.abs(guess - p.mean(1)).mean()
    random = [error(p[:, rng.choice(120, 12, replace=False)].mean(1)) for _ in range(50)]
    assert error(chosen.score(p)) < 0.6 * np.mean(random)


@pytest.mark.parametrize("count", [0, 9])
def test_a_number_of_anchors_that_cannot_be_is_refused(count) -> None:
    with pytest.raises(ValueError, match="cannot take"):
        anchors(model([1.0] * 8, range(8)), count)
