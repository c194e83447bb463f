"""REX at points computed by hand."""

import pytest

from tunewright.optimize.schedules import Rex


def test_values_and_slopes():
    at = lambda z, **options: Rex(warmup=0, **options).factor(round(z * 10_000), 10_000)
    assert [at(0), at(0.5), at(0.9999)] == pytest.approx([1, 2 / 3, 2 / 10_001])
    assert (at(1e-4) - at(0)) * 10_000 == pytest.approx(-0.5, abs=1e-3)
    assert (at(0.9999) - at(0.9998)) * 10_000 == pytest.approx(-2, abs=1e-3)
    assert all(at(z / 100) >= 1 - z / 100 for z in range(100))


def test_the_last_step_of_a_run_still_learns():
    assert Rex(warmup=0).factor(99, 100) == pytest.approx(2 / 101)


def test_three_values_when_sampled_at_half_and_three_quarters():
    schedule = Rex(warmup=0, sampling=(0.5, 0.75))
    found = [schedule.factor(step, 8) for step in range(8)]
    assert found == pytest.approx([1] * 4 + [2 / 3] * 2 + [0.4] * 2)


def test_the_rise_is_followed_by_the_profile_over_the_rest():
    found = [Rex(warmup=4).factor(step, 14) for step in range(14)]
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert found[4:] == pytest.approx([Rex(warmup=0).factor(step, 10) for step in range(10)])


def test_the_floor_is_the_smallest_factor():
    plain = [Rex(warmup=0).factor(step, 20) for step in range(20)]
    assert [Rex(warmup=0, floor=0.3).factor(step, 20) for step in range(20)] == [max(0.3, value) for value in plain]


def test_points_must_rise():
    with pytest.raises(ValueError, match="rise"):
        Rex(sampling=(0.75, 0.5))
