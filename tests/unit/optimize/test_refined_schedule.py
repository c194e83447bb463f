"""The refined schedule against its formula and its fixed points."""

import json

import numpy as np
import pytest

from tunewright.optimize.schedules import RefinedSchedule
from tunewright.optimize.schedules.refined_schedule import smoothed

TOTAL = 200


def factors(norms, total=None, **options):
    schedule = RefinedSchedule(norms=tuple(float(n) for n in norms), **options)
    total = total or len(norms)
    return np.array([schedule.factor(step, total) for step in range(total)])


LINE = np.arange(TOTAL - 1, -1, -1) / (TOTAL - 1)


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_constant_norms_give_linear_decay(exponent):
    found = factors([3.0] * TOTAL, exponent=exponent)
    assert np.abs(found - LINE).max() < 1e-12
    assert found[-1] == 0


def test_without_norms_it_is_linear_decay():
    found = [RefinedSchedule().factor(step, TOTAL) for step in range(TOTAL)]
    assert np.abs(found - LINE).max() < 1e-12


def test_the_scale_of_the_norms_does_not_matter():
    norms = np.random.default_rng(0).uniform(1, 3, TOTAL)
    assert factors(norms) == pytest.approx(factors(1000 * norms), abs=1e-12)


def test_rising_norms_against_the_formula():
    w = [1 / t**2 for t in range(1, 9)]
    by_hand = np.array([w[t] * sum(w[t + 1 :]) for t in range(8)])
    assert factors(range(1, 9), tau=0.0, exponent=2.0) == pytest.approx(by_hand / by_hand.max(), abs=1e-12)


def test_a_short_spike_between_constant_norms_changes_nothing():
    norms = np.full(TOTAL, 2.0)
    norms[60:69] = 50.0
    assert np.abs(factors(norms) - LINE).max() < 1e-12
    norms[:9] = 50.0
    assert np.abs(factors(norms) - LINE).max() > 1e-3


def test_norms_that_fall_early_and_grow_late_warm_up_and_anneal():
    norms = np.concatenate([np.linspace(6, 1, TOTAL // 10), np.linspace(1, 2, TOTAL - TOTAL // 10)])
    found = factors(norms)
    assert found.argmax() > 0
    assert found[int(0.9 * TOTAL)] < LINE[int(0.9 * TOTAL)]


def test_the_median_repeats_the_start_and_mirrors_the_end():
    assert smoothed(np.array([5.0, 1.0, 2.0, 9.0]), 0.5).tolist() == [5.0, 2.0, 2.0, 2.0]
    assert smoothed(np.array([5.0, 1.0]), 0.0).tolist() == [5.0, 1.0]


def test_a_run_of_another_length_reads_the_norms_between_its_points():
    assert factors([4.0, 2.0], total=3, tau=0.0) == pytest.approx(factors([4.0, 3.0, 2.0], tau=0.0))
    assert factors([4.0, 2.0], total=1).tolist() == [1.0]


def test_a_norm_of_zero_counts_as_the_smallest_other():
    assert factors([4.0, 0.0, 2.0], tau=0.0) == pytest.approx(factors([4.0, 2.0, 2.0], tau=0.0))
    with pytest.raises(ValueError, match="zero"):
        RefinedSchedule(norms=(0.0, 0.0))


def test_reads_the_metrics_of_an_earlier_run(tmp_path):
    lines = [{"step": n + 1, "loss": 1.0, "gradient_norm": norm} for n, norm in enumerate([3.0, 1.0, 2.0])]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"step": 3, "perplexity": 2.0}]))
    schedule = RefinedSchedule(norms=str(file), tau=0.0)
    assert [schedule.factor(s, 3) for s in range(3)] == factors([3.0, 1.0, 2.0], tau=0.0).tolist()
    for wrong in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ValueError, match="cannot be read"):
            RefinedSchedule(norms=str(wrong))
    file.write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match="no line"):
        RefinedSchedule(norms=str(file))


def test_the_floor_replaces_the_last_zero():
    assert factors([1.0] * 5, floor=0.2)[-1] == 0.2
