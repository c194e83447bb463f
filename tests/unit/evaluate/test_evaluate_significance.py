"""Tests, corrections, power and noise: against scipy and statsmodels, published cases, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from tunewright.evaluate.statistics import (
    benjamini_hochberg,
    detectable,
    detectable_by_t,
    detectable_share,
    effect_size,
    hierarchical,
    holm,
    mean_over_seeds,
    paired_t,
    power,
    power_by_t,
    seed_noise,
    sign_flip,
    time_score,
)  # fmt: skip

RNG = np.random.default_rng(3)
DIFFERENCES = RNG.normal(0.4, 1.0, 9)
P = np.array([0.01, 0.04, 0.03, 0.005, 0.8])


def test_paired_t_equals_scipy() -> None:
    theirs = scipy.stats.ttest_1samp(DIFFERENCES, 0.0)
    interval = theirs.confidence_interval(0.95)
    ours = paired_t(DIFFERENCES)
    assert ours == pytest.approx((DIFFERENCES.mean(), interval.low, interval.high, theirs.pvalue))
    assert mean_over_seeds(DIFFERENCES) == pytest.approx(ours[:3])


def test_equal_differences_never_decide_at_five_seeds() -> None:
    assert paired_t(np.zeros(5)).p == 1.0
    assert paired_t(np.full(5, 0.1)).p == pytest.approx(2 / 2**5)
    with pytest.raises(ValueError, match="two"):
        paired_t(np.ones(1))


def test_sign_flip_tries_every_sign_and_equals_scipy() -> None:
    theirs = scipy.stats.permutation_test((DIFFERENCES,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(DIFFERENCES) == pytest.approx(theirs.pvalue)
    assert sign_flip(np.array([1.0, 2.0, 3.0])) == 0.25  # the least that three can give
    many = RNG.normal(0.15, 1.0, 200)
    assert sign_flip(many) == pytest.approx(scipy.stats.ttest_1samp(many, 0).pvalue, abs=0.02)
    assert sign_flip(many) == sign_flip(many)


def test_holm_by_hand() -> None:
    # Sorted: .005 x 5, .01 x 4, .03 x 3, .04 x 2 (less than the one before, so that), .8 x 1.
    assert holm(P) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.8])


def test_benjamini_hochberg_equals_scipy() -> None:
    assert benjamini_hochberg(P) == pytest.approx(scipy.stats.false_discovery_control(P))


def test_corrections_equal_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = RNG.uniform(size=20) ** 3
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multitest.multipletests(p, method="fdr_bh")[1])


def test_power_of_the_paired_t_test_equals_statsmodels() -> None:
    theirs = pytest.importorskip("statsmodels.stats.power").TTestPower()
    assert power_by_t(1.0, 1.0, 8) == pytest.approx(theirs.power(1.0, 8, 0.05, alternative="two-sided"))


def test_power_of_the_paired_t_test_in_simulation() -> None:
    drawn = np.random.default_rng(0).normal(1.2, 1.0, (4000, 5))
    found = np.mean([paired_t(row).p < 0.05 for row in drawn])
    assert power_by_t(1.2, 1.0, 5) == pytest.approx(found, abs=0.025)
    assert power_by_t(detectable_by_t(0.7, 5), 0.7, 5) == pytest.approx(0.8)
    assert detectable_by_t(0.0, 5) == 0.0


def test_detectable_differences_of_the_paper() -> None:
    """arXiv 2406.10229 as the card has it: MDD 2.77 at one seed and 1.39 at four for sigma 1, found half the time."""
    assert detectable(1.0, 1) == pytest.approx(2.77, abs=0.005)
    assert detectable(1.0, 4) == pytest.approx(1.39, abs=0.005)
    assert power(2.77, 1.0, 1) == pytest.approx(0.50, abs=0.005)
    assert detectable(1.0, 1, power=0.8) == pytest.approx(2.80 * np.sqrt(2), abs=0.005)


def test_what_a_share_lets_one_see_in_simulation() -> None:
    delta = detectable_share(200, 5)
    rng = np.random.default_rng(0)
    arms = [rng.binomial(200, share, (3000, 5)) / 200 for share in (0.5 - delta / 2, 0.5 + delta / 2)]
    assert np.mean([paired_t(row).p < 0.05 for row in arms[1] - arms[0]]) == pytest.approx(0.8, abs=0.025)


def test_noise_of_seeds_by_hand() -> None:
    found = seed_noise(np.array([[0.4], [0.6]]))
    assert (found.mean, found.sigma, found.snr) == pytest.approx((0.5, 0.1414, 3.54), abs=0.005)
    assert found.detectable(1) == pytest.approx(2.77 * found.sigma, abs=0.001)
    assert seed_noise(np.full((3, 4), 0.5)).snr == float("inf")
    with pytest.raises(ValueError, match="two"):
        seed_noise(np.ones((1, 4)))


def test_the_interval_of_one_run_is_that_of_a_share() -> None:
    half = np.tile([0.0, 1.0], (2, 50))
    found = seed_noise(half)
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(0.098, abs=0.004)


def test_monotonicity_of_scores_that_rise_fall_or_stay() -> None:
    rising = np.linspace(0, 1, 6)[None, :, None] + np.zeros((2, 6, 3))
    assert seed_noise(rising).monotonicity == pytest.approx(1.0)
    assert seed_noise(-rising).monotonicity == pytest.approx(-1.0)
    assert seed_noise(-rising, higher_is_better=False).monotonicity == pytest.approx(1.0)
    assert seed_noise(np.ones((2, 6, 3))).monotonicity == 0.0
    assert seed_noise(np.ones((2, 3))).monotonicity is None


def test_an_item_that_follows_the_others_discriminates() -> None:
    skill = np.array([0.1, 0.4, 0.6, 0.9])
    items = np.stack([skill, skill, -skill, np.full(4, 0.5)], axis=1)
    found = seed_noise(items).discrimination
    assert found == pytest.approx([0.0, 0.0, -1.0, 0.0], abs=1e-9)  # the first two have skill - skill beside them
    assert seed_noise(items[:, :2]).discrimination == pytest.approx([1.0, 1.0])


def test_hierarchical_interval_widens_with_seeds_that_differ() -> None:
    examples = RNG.normal(0.2, 1.0, 300)
    alike = np.tile(examples, (5, 1))
    apart = alike + RNG.normal(0.0, 0.5, (5, 1))
    narrow, wide = hierarchical(alike), hierarchical(apart)
    assert narrow.estimate == pytest.approx(examples.mean())
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * examples.std() / np.sqrt(300), rel=0.05)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    with pytest.raises(ValueError, match="shape"):
        hierarchical(examples)


def test_hierarchical_interval_weighs_examples() -> None:
    weights = RNG.uniform(1, 5, 40)
    values = RNG.normal(size=(3, 40))
    assert hierarchical(values, weights).estimate == pytest.approx(np.average(values.mean(0), weights=weights))


def test_effect_size_by_hand() -> None:
    assert effect_size(np.array([2.0, 4.0]), np.array([1.0, 3.0])) == pytest.approx(1 / np.sqrt(2))
    assert effect_size(np.ones(3), np.zeros(3)) is None


def test_score_from_times() -> None:
    """arXiv 2306.07179 as the card has it: two arms, each twice as slow on one workload, score 0.8333 each."""
    assert time_score(np.array([[1.0, 2.0], [2.0, 1.0]])) == pytest.approx([5 / 6, 5 / 6])
    times = np.array([[1.0, 3.0, np.inf], [9.0, np.inf, np.inf], [2.0, 3.0, np.inf]])
    scores = time_score(times)
    assert scores[1] == 0.0 and scores == pytest.approx(time_score(times * np.array([7.0, 0.1, 1.0])))
    assert time_score(np.array([[1.0, 1.0], [2.0, 8.0]]))[0] == 1.0
    # The closed form is the mean of the profile over factors from 1 to 4.
    taus = np.linspace(1, 4, 300_001)
    ratios = times[2, :2] / times[:, :2].min(0)
    profile = np.mean([(ratios <= tau).sum() / 3 for tau in taus[::100]])
    assert scores[2] == pytest.approx(profile, abs=2e-3)


def test_score_from_times_is_the_area_under_its_steps() -> None:
    """The card's hand case by its step function: half of the workloads from 1 to 2, all of them from 2 to 4."""
    area = (0.5 * (2 - 1) + 1.0 * (4 - 2)) / (4 - 1)
    assert np.abs(time_score(np.array([[1.0, 2.0], [2.0, 1.0]])) - area).max() < 1e-12


def test_an_unsolved_variant_takes_its_base() -> None:
    """Columns: base, a variant of it, another base. The first arm is fastest on the base but fails the variant, so that
    the second is the fastest there: r = 1 and 1 for it, and 2 of 2 workloads; the first keeps the other base, r = 2."""
    times = np.array([[1.0, np.inf, 4.0], [3.0, 5.0, 2.0]])
    assert time_score(times, bases=[0, 0, 2]) == pytest.approx([(4 - 2) / 3 / 2, 1.0], abs=1e-12)
    # Beyond four times the fastest is as good as never; exactly four times is still solved, and worth nothing.
    late = np.array([[1.0, 20.1, 4.0], [3.0, 5.0, 2.0]])
    assert time_score(late, bases=[0, 0, 2]) == pytest.approx(time_score(times, bases=[0, 0, 2]))
    just = np.array([[1.0, 20.0, 4.0], [3.0, 5.0, 2.0]])
    assert time_score(just, bases=[0, 0, 2]) == pytest.approx([(1.0 + 2 / 3) / 2, (1 / 3 + 1.0) / 2], abs=1e-12)
    assert (time_score(np.full((2, 3), np.inf), bases=[0, 0, 2]) == 0).all()
    # A base whose variant nobody solved still counts.
    assert time_score(np.array([[1.0, np.inf, 1.0]]), bases=[0, 0, 2]) == pytest.approx([0.5])
    with pytest.raises(ValueError, match="variant"):
        time_score(times, bases=[1, 2, 2])
