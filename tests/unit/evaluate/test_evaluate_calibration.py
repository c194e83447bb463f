"""Calibration, its baselines, and the combination of predictions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from tunewright.evaluate.metrics.calibration import (
    bin_of,
    brier,
    entropy,
    expected_calibration_error,
    maximum_calibration_error,
    surprisal,
)
from tunewright.evaluate.metrics.ensembles import (
    COMBINATIONS,
    at_temperature,
    batch_calibrated,
    combined,
    fitted_temperature,
)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return softmax(2 * np.random.default_rng(seed).standard_normal(shape), axis=-1)


def test_known_errors() -> None:
    assert expected_calibration_error([0.8] * 10, [1] * 8 + [0] * 2, 10) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error([1.0] * 10, [1] * 5 + [0] * 5, 10) == pytest.approx(0.5)
    # .75 and .7 share the bin [.7, .8), .8 has its own; bins closed on the right would give .2833.
    assert expected_calibration_error([0.8, 0.75, 0.7], [1, 0, 1], 10) == pytest.approx(0.2167, abs=5e-5)
    assert maximum_calibration_error([0.8, 0.75, 0.7], [1, 0, 1], 10) == pytest.approx(0.225)


def test_bins_are_closed_on_the_left_and_1_is_in_the_last() -> None:
    assert bin_of(np.arange(11) / 10, 10).tolist() == [*range(10), 9]
    assert bin_of(np.nextafter(np.arange(1, 10) / 10, 0), 10).tolist() == list(range(9))


@pytest.mark.parametrize("seed", range(5))
def test_bounds(seed: int) -> None:
    p, truths = drawn(seed, 50, 3), np.random.default_rng(seed).integers(0, 3, 50)
    right = p.argmax(-1) == truths
    error = expected_calibration_error(p.max(-1), right, 10)
    assert 0 <= error <= maximum_calibration_error(p.max(-1), right, 10) <= 1
    assert (surprisal(p, truths) >= 0).all() and (entropy(p) >= 0).all() and (entropy(p) <= np.log(3) + 1e-12).all()


def test_entropy_and_surprisal_by_hand() -> None:
    assert entropy([[0.5, 0.5], [1.0, 0.0]]) == pytest.approx([np.log(2), 0])
    assert surprisal([[0.25, 0.75], [1.0, 0.0]], [0, 0]) == pytest.approx([np.log(4), 0])
    assert np.isfinite(surprisal([[1.0, 0.0]], [1])).all()


def test_known_combinations() -> None:
    members = [[[0.9, 0.1]], [[0.5, 0.5]]]
    assert combined(members, "mean_prob")[0] == pytest.approx([0.7, 0.3])
    assert combined(members, "max_prob")[0] == pytest.approx([0.643, 0.357], abs=5e-4)


def test_a_majority_is_weighted_and_speaks_for_its_voters() -> None:
    # Two votes of .6 for the second against one of .9: 1.2 > .9.
    assert combined([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]], "majority")[0] == pytest.approx([0.4, 0.6])
    # One vote of .95 against .4 + .5 for another.
    found = combined([[[0.95, 0.05, 0]], [[0.3, 0.4, 0.3]], [[0.3, 0.5, 0.2]]], "majority")[0]
    assert found == pytest.approx([0.95, 0.05, 0])
    # On a tie the one that the earliest member voted for.
    assert combined([[[0.2, 0.8]], [[0.8, 0.2]]], "majority")[0] == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize("how", COMBINATIONS)
def test_equal_members_change_nothing_and_shares_add_up(how: str) -> None:
    p = drawn(0, 20, 4)
    assert combined(np.stack([p] * 3), how) == pytest.approx(p)
    assert combined(drawn(1, 5, 20, 4), how).sum(-1) == pytest.approx(np.ones(20))


@pytest.mark.parametrize("seed", range(20))
def test_the_mean_is_never_more_surprised_than_its_members(seed: int) -> None:
    members, truths = drawn(seed, 6, 30, 3), np.random.default_rng(seed).integers(0, 3, 30)
    single = np.stack([surprisal(one, truths) for one in members]).mean(0)
    assert (surprisal(combined(members, "mean_prob"), truths) <= single + 1e-12).all()


def test_the_mean_and_the_maximum_are_those_of_the_claim() -> None:
    """What the claim on prompt ensembles computes by itself is the same to the last bits."""
    members = drawn(3, 6, 200, 4)
    assert combined(members, "mean_prob") == pytest.approx(members.mean(0), abs=1e-14)
    largest = members.max(0)
    assert (combined(members, "max_prob") == largest / largest.sum(-1, keepdims=True)).all()


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_what_sharpened_the_probabilities(scale: float) -> None:
    rng = np.random.default_rng(0)
    true = softmax(rng.standard_normal((20_000, 3)), axis=-1)
    truths = (true.cumsum(-1) < rng.uniform(size=(20_000, 1))).sum(-1)
    told = softmax(scale * np.log(true), axis=-1)
    found = fitted_temperature(told, truths)
    assert found == pytest.approx(scale, rel=0.05)
    best = surprisal(at_temperature(told, found), truths).mean()
    assert best <= min(surprisal(at_temperature(told, t), truths).mean() for t in np.linspace(0.1, 8, 50)) + 1e-9
    assert (at_temperature(told, found).argmax(-1) == told.argmax(-1)).all()


def test_temperature_1_changes_nothing_and_0_stays_0() -> None:
    p = np.array([[0.7, 0.3, 0.0]])
    assert at_temperature(p, 1.0) == pytest.approx(p)
    assert at_temperature(p, 3.0)[0, 2] == 0


def test_a_favour_that_all_rows_share_counts_for_nothing() -> None:
    logits = np.random.default_rng(0).standard_normal((40, 3))
    favoured = softmax(logits + np.array([2.0, 0.0, -1.0]), axis=-1)
    assert batch_calibrated(favoured) == pytest.approx(batch_calibrated(softmax(logits, axis=-1)))
    assert np.log(batch_calibrated(favoured)).mean(0).std() < np.log(favoured).mean(0).std() / 2


def test_identical_probabilities_have_the_same_scores() -> None:
    p, truths = drawn(0, 30, 3), np.arange(30) % 3
    assert brier(combined(np.stack([p, p]), "mean_prob"), truths) == pytest.approx(brier(p, truths))
