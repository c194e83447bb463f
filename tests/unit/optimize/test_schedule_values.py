"""Schedules at steps computed by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright import catalog
from tunewright.optimize.schedules import WSD, Constant, Cosine, InverseSqrt, Linear

BY_HAND = [
    (Constant(warmup=0), 10, [1.0] * 10),
    (Constant(warmup=4), 6, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]),
    (Constant(warmup=0.5), 4, [0.5, 1.0, 1.0, 1.0]),
    (Linear(warmup=0), 4, [1.0, 0.75, 0.5, 0.25]),
    (Linear(warmup=0, floor=0.5), 4, [1.0, 0.875, 0.75, 0.625]),
    (Linear(warmup=2), 6, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
    (Cosine(warmup=0), 4, [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    (Cosine(warmup=0, floor=0.2), 2, [1.0, 0.6]),
    (WSD(warmup=0, decay=0.5), 8, [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]),
    (WSD(warmup=0, decay=1.0, floor=0.5), 4, [1.0, 0.875, 0.75, 0.625]),
    (WSD(warmup=1, decay=0.2), 6, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    (InverseSqrt(warmup=0, timescale=3), 7, [(3 / (3 + step)) ** 0.5 for step in range(7)]),
    (InverseSqrt(warmup=2, timescale=2), 4, [0.5, 1.0, 1.0, (2 / 3) ** 0.5]),
]


@pytest.mark.parametrize(("schedule", "total", "wanted"), BY_HAND, ids=lambda value: getattr(value, "name", ""))
def test_values_by_hand(schedule, total, wanted):
    assert [schedule.factor(step, total) for step in range(total)] == pytest.approx(wanted)


def test_the_transformers_schedule_is_inverse_sqrt_with_timescale_equal_to_the_rise():
    schedule = InverseSqrt(warmup=40, timescale=40)
    theirs = lambda step: min(step**-0.5, step * 40**-1.5) / 40**-0.5
    found = [schedule.factor(step, 1000) for step in range(1000)]
    assert found[:40] == pytest.approx([theirs(step + 1) for step in range(40)])
    assert found[40:] == pytest.approx([theirs(step) for step in range(40, 1000)])


@given(
    name=st.sampled_from(catalog.names("schedule")),
    warmup=st.floats(0, 50),
    total=st.integers(1, 10_000),
    place=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=200, deadline=None)
def test_bounds_hold_everywhere(name, warmup, total, place):
    factor = catalog.find("schedule", name)(warmup=warmup).factor(int(place * total), total)
    assert 0.0 <= factor <= 1.0
