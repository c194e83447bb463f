"""Intervals: against scipy, against known coverage, and reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from tunewright.evaluate.metrics.calibration import (
    calibration_columns,
    calibration_from_sums,
    expected_calibration_error,
)  # fmt: skip
from tunewright.evaluate.statistics import bootstrap, interquartile_mean, mean, paired_difference, resampled_sums

RNG = np.random.default_rng(0)
BEFORE = RNG.normal(0.0, 1.0, 80)
AFTER = BEFORE + RNG.normal(0.3, 0.5, 80)
WEIGHTS = RNG.uniform(1, 20, 80)


def test_paired_difference_equals_scipy() -> None:
    ours = paired_difference(BEFORE, AFTER)
    theirs = scipy.stats.bootstrap(
        (BEFORE, AFTER), lambda b, a, axis: a.mean(axis) - b.mean(axis), paired=True, vectorized=True,
        n_resamples=10_000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert ours.estimate == pytest.approx(AFTER.mean() - BEFORE.mean())
    assert ours[1:] == pytest.approx(tuple(theirs), abs=0.006)


def test_weighted_mean_equals_scipy_on_the_ratio() -> None:
    ours = mean(BEFORE, WEIGHTS)
    ratio = lambda x, w, axis: (x * w).sum(axis) / w.sum(axis)
    theirs = scipy.stats.bootstrap(
        (BEFORE, WEIGHTS), ratio, paired=True, vectorized=True, n_resamples=10_000, method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert ours.estimate == pytest.approx(np.average(BEFORE, weights=WEIGHTS))
    assert ours[1:] == pytest.approx(tuple(theirs), abs=0.02)


def test_calibration_error_is_resampled_as_a_whole() -> None:
    confidence, correct = RNG.uniform(size=60), RNG.uniform(size=60) < 0.5
    ours = bootstrap(calibration_columns(confidence, correct), calibration_from_sums)
    theirs = scipy.stats.bootstrap(
        (confidence, correct), lambda c, y: expected_calibration_error(c, y), paired=True, vectorized=False,
        n_resamples=2000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert ours.estimate == pytest.approx(expected_calibration_error(confidence, correct))
    assert ours[1:] == pytest.approx(tuple(theirs), abs=0.02)


def test_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(200):
        drawn = rng.exponential(1.0, 60)
        low, high = bootstrap(
            np.stack([drawn, np.ones(60)], 1), lambda s: s[:, 0] / s[:, 1], resamples=1000, seed=trial
        )[1:]  # fmt: skip
        hits += low <= 1.0 <= high
    assert 0.88 <= hits / 200 <= 0.98


def test_reproducible_and_seeded() -> None:
    state = np.random.get_state()[1].tolist()  # type: ignore[index]
    assert paired_difference(BEFORE, AFTER) == paired_difference(BEFORE, AFTER)
    assert paired_difference(BEFORE, AFTER) != paired_difference(BEFORE, AFTER, seed=1)
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]


def test_columns_share_each_draw() -> None:
    sums = resampled_sums(np.stack([BEFORE, 2 * BEFORE, np.ones(80)], 1), resamples=500)
    assert sums[:, 1] == pytest.approx(2 * sums[:, 0])
    assert (sums[:, 2] == 80).all()


def test_repeated_values_are_drawn_as_counts() -> None:
    before, after = (np.repeat([0.0, 1.0], [600, 400]), np.tile([0.0, 1.0, 1.0, 0.0], 250))
    ours = paired_difference(before, after)
    theirs = scipy.stats.bootstrap(
        (after - before,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.estimate == pytest.approx(0.1)
    assert ours[1:] == pytest.approx(tuple(theirs), abs=0.003)
    assert (resampled_sums(np.ones((100, 1)), resamples=5) == 100).all()


def test_degenerate_cases() -> None:
    assert paired_difference(np.zeros(5), np.zeros(5)) == (0.0, 0.0, 0.0)
    assert paired_difference(np.zeros(5), np.ones(5)) == pytest.approx((1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="no examples"):
        mean(np.zeros(0))
    with pytest.raises(ValueError, match="5 and 4"):
        paired_difference(np.zeros(5), np.zeros(4))


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end() -> None:
    values = np.array([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0])
    found = interquartile_mean(values)
    assert found.estimate == pytest.approx(scipy.stats.trim_mean(values, 0.25)) == 3.5
    assert -100 < found.low < 3.5 < found.high < 100 and found == interquartile_mean(values)
    for few in ([1.0], [1.0, 5.0], [1.0, 2.0, 9.0]):
        assert interquartile_mean(np.array(few)).estimate == pytest.approx(np.mean(few))
    with pytest.raises(ValueError, match="no values"):
        interquartile_mean(np.array([]))


def test_the_interval_of_an_interquartile_mean_covers_about_as_often_as_it_says() -> None:
    """30 normal values each; the percentile bootstrap covers somewhat less than 95% with few values."""
    rng = np.random.default_rng(3)
    drawn = [interquartile_mean(rng.normal(size=30), resamples=500, seed=k) for k in range(400)]
    assert 0.88 <= np.mean([one.low <= 0 <= one.high for one in drawn]) <= 0.98
