"""Re-warming at points computed by hand."""

import pytest

from tunewright.optimize.schedules import Rewarm


def test_rises_over_one_percent_and_falls_to_a_tenth():
    found = [Rewarm().factor(step, 10_000) for step in range(10_000)]
    assert found[:100] == pytest.approx([(step + 1) / 100 for step in range(100)])
    assert found[100] == 1.0
    assert found[100 + 4950] == pytest.approx(0.55, abs=1e-4)
    assert found[-1] == pytest.approx(0.1, abs=1e-6)


def test_starts_at_the_peak_without_a_rise():
    assert Rewarm(warmup=0).factor(0, 100) == 1.0
