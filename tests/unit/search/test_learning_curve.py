"""Forecasts of learning curves on curves that are known."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.search.learning_curve import LearningCurve, fit

SIZES = 500.0 * np.arange(1, 31)


@pytest.mark.parametrize(("a", "b", "c"), [(20.0, 0.5, 95.0), (30.0, 0.2, 99.0), (5.0, 1.5, 90.0), (8.0, 1.0, 60.0)])
def test_a_curve_without_noise_is_recovered_at_every_level(a: float, b: float, c: float) -> None:
    curve = -a * (SIZES / SIZES[0]) ** -b + c
    for level in LearningCurve().trace(SIZES, curve):
        assert level.trend.c == pytest.approx(c, abs=1e-4)
        assert (level.trend.a, level.trend.b) == pytest.approx((a, b), rel=1e-4)
        assert level.gain_left == pytest.approx(a * (level.size / SIZES[0]) ** -b, abs=1e-4)


def test_the_first_forecast_waits_for_look_ahead_calm_levels() -> None:
    levels = LearningCurve(look_ahead=5).trace(SIZES, -20 * (SIZES / 500) ** -0.5 + 95)
    assert [level.forecast for level in levels].index(True) == 5
    wild = np.random.default_rng(0).uniform(0, 90, len(SIZES))
    assert not any(level.forecast for level in LearningCurve(verticality=1e-9).trace(SIZES, wild))


def test_nothing_is_trusted_or_stopped_above_the_highest_score() -> None:
    levels = LearningCurve(highest=80.0).trace(SIZES, -5 * (SIZES / 500) ** -1.5 + 90)
    assert not any(level.forecast or level.stop for level in levels)
    stops = [level for level in LearningCurve().trace(SIZES, -5 * (SIZES / 500) ** -1.5 + 90) if level.stop]
    assert stops and stops[0].gain_left <= 0.5


@pytest.mark.parametrize("weight", [0.1, 1.0, 100.0])
def test_an_anchor_pulls_the_asymptote_towards_it(weight: float) -> None:
    rng = np.random.default_rng(1)
    y = -20 * (SIZES / 500) ** -0.5 + 95 + rng.normal(0, 0.3, len(SIZES))
    free = fit(SIZES, y)
    for anchor in (free.c - 2, free.c + 2):
        assert abs(fit(SIZES, y, anchor, weight).c - anchor) <= abs(free.c - anchor) + 1e-9
    assert fit(SIZES, y, 91.0, 1e8).c == pytest.approx(91.0, abs=1e-5)


def test_portions_must_rise() -> None:
    with pytest.raises(ValueError, match="rising"):
        LearningCurve().trace([1, 2], [3, 4])
    with pytest.raises(ValueError, match="rising"):
        LearningCurve().trace([1, 2, 2], [3, 4, 5])


def test_a_loss_has_an_asymptote_below_zero() -> None:
    loss = 2.0 + 3 * (SIZES / SIZES[0]) ** -0.5
    for level in LearningCurve(highest=0.0).trace(SIZES, -loss):
        assert level.trend.c == pytest.approx(-2.0, abs=1e-4)
    assert any(level.forecast for level in LearningCurve(highest=0.0).trace(SIZES, -loss))
