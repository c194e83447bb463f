"""What every schedule promises."""

from __future__ import annotations

import math

from tunewright.optimize.schedules.base import Schedule

TOTALS = (1, 2, 3, 7, 100, 1013)


class ScheduleContract:
    """Tests of one schedule; a subclass gives the fixture `method`."""

    def test_stays_between_nothing_and_the_full_rate(self, method: Schedule) -> None:
        for warmup in (0.0, 0.1, 0.999, 1.0, 5.0, 2000.0):
            for total in TOTALS:
                for step in range(total):
                    factor = _with(method, warmup).factor(step, total)
                    assert math.isfinite(factor) and 0.0 <= factor <= 1.0, (warmup, step, total, factor)

    def test_never_wastes_the_first_step(self, method: Schedule) -> None:
        for warmup in (0.0, 0.1, 3.0):
            for total in TOTALS:
                assert _with(method, warmup).factor(0, total) > 0

    def test_rises_in_a_straight_line_to_the_full_rate(self, method: Schedule) -> None:
        for warmup, rise in ((0.1, 10), (4.0, 4), (1.0, 1)):
            schedule = _with(method, warmup)
            found = [schedule.factor(step, 100) for step in range(rise + 1)]
            wanted = [(step + 1) / rise for step in range(rise)] + [1.0]
            assert all(math.isclose(f, w, rel_tol=1e-12) for f, w in zip(found, wanted, strict=True)), found

    def test_is_a_function_of_step_and_total(self, method: Schedule) -> None:
        forward = [method.factor(step, 50) for step in range(50)]
        backward = [method.factor(step, 50) for step in reversed(range(50))]
        assert forward == backward[::-1]

    def test_does_not_rise_after_the_rise(self, method: Schedule) -> None:
        schedule = _with(method, 5.0)
        found = [schedule.factor(step, 60) for step in range(5, 60)]
        assert found == sorted(found, reverse=True)


def _with(method: Schedule, warmup: float) -> Schedule:
    return method.model_copy(update={"warmup": warmup})
