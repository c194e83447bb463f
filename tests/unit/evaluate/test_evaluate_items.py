"""Items: discrimination by hand, what dropping the weak ones does to sigma, and a response model with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit
from scipy.stats import pearsonr, pointbiserialr

from tunewright.evaluate.statistics import discrimination, item_response, trimmed
from tunewright.evaluate.statistics.items import _surprise


def simulated(takers: int, items: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    slopes, difficulties = rng.uniform(0.6, 2.2, items), rng.normal(0.0, 1.0, items)
    abilities = rng.normal(0.0, 1.0, takers)
    p = expit(slopes * (abilities[:, None] - difficulties))
    return (rng.random(p.shape) < p).astype(float), slopes, difficulties, abilities


def test_discrimination_is_the_point_biserial_correlation_with_the_other_items() -> None:
    y, *_ = simulated(40, 6)
    y[:, 5] = 1.0
    expected = [pointbiserialr(y[:, j], np.delete(y, j, 1).sum(1)).statistic for j in range(5)]
    assert discrimination(y) == pytest.approx([*expected, 0.0])


def test_the_least_discriminating_items_are_dropped_and_sigma_is_measured_again() -> None:
    # Items 0 to 7 follow the taker; item 8 goes against all others and item 9 never changes.
    level = np.array([0.0, 0.0, 1.0, 1.0])
    takers = np.column_stack([*[level] * 8, 1 - level, np.ones(4)])
    seeds = np.zeros((2, 10))
    seeds[1, [0, 8]] = 1.0
    found = trimmed(takers, seeds)
    assert found.kept.tolist() == list(range(8))
    # Means 0 and 2/10, then 0 and 1/8; the deviation of two numbers is their distance / sqrt(2).
    assert found.sigma == pytest.approx(0.2 / 2**0.5) and found.sigma_kept == pytest.approx(0.125 / 2**0.5)
    assert trimmed(takers, seeds, drop=0.0).sigma_kept == pytest.approx(found.sigma)
    # Where the noise sits in an item that is kept, sigma gets larger: the same jump over fewer items.
    seeds[1, 8] = 0.0
    assert trimmed(takers, seeds).sigma_kept > trimmed(takers, seeds).sigma


@pytest.mark.parametrize("shapes, drop", [(((3, 4), (3, 5)), 0.2), (((1, 4), (3, 4)), 0.2), (((3, 4), (3, 4)), 1.0)])
def test_scores_that_cannot_be_trimmed_are_refused(shapes, drop) -> None:
    with pytest.raises(ValueError, match="cannot drop"):
        trimmed(np.ones(shapes[0]), np.ones(shapes[1]), drop)


def test_the_response_model_finds_the_parameters_that_made_the_responses() -> None:
    y, slopes, difficulties, abilities = simulated(4000, 30)
    found = item_response(y)
    assert np.sqrt(np.mean((found.slopes - slopes) ** 2)) < 0.12
    assert np.sqrt(np.mean((found.difficulties - difficulties) ** 2)) < 0.12
    assert pearsonr(found.abilities, abilities).statistic > 0.9
    # Posterior deviations tell how far off the means are.
    assert np.mean(((found.abilities - abilities) / found.errors) ** 2) == pytest.approx(1.0, abs=0.1)
    assert found.probabilities().mean(0) == pytest.approx(y.mean(0), abs=0.03)


def test_its_gradient_is_that_of_its_objective() -> None:
    y, *_ = simulated(20, 4, seed=1)
    points, weights = np.polynomial.hermite_e.hermegauss(15)
    at = np.random.default_rng(0).normal(size=8)
    value = lambda x: _surprise(x, y, points, np.log(weights / weights.sum()))[0]
    _, gradient = _surprise(at, y, points, np.log(weights / weights.sum()))
    assert gradient == pytest.approx(approx_fprime(at, value, 1e-7), abs=1e-4)


def test_extreme_items_stay_finite_and_a_reversed_item_has_a_negative_slope() -> None:
    y, *_ = simulated(500, 10, seed=2)
    y[:, 0], y[:, 1], y[:, 2] = 1.0, 0.0, 1 - y[:, 3]
    found = item_response(y)
    assert np.isfinite(found.difficulties).all()
    assert found.intercepts[0] > 2 and found.intercepts[1] < -2
    assert found.slopes[2] < 0 < found.slopes[3]


@pytest.mark.parametrize("responses", [np.full((3, 3), 0.5), np.ones((1, 3)), np.ones((3, 1))])
def test_responses_it_cannot_fit_are_refused(responses) -> None:
    with pytest.raises(ValueError, match="responses"):
        item_response(responses)
