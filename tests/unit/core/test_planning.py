"""What a plan tells from its numbers: energy, price, and intervals where there are enough runs."""

import pytest

from tunewright.planning import Prediction


def prediction(**changes):
    known = {
        "peak_memory_bytes": 4 * 10**8, "available_bytes": 10**9, "seconds": 1800.0, "steps": 10, "tokens": 1000,
        "train_flops": 1e9, "trained_parameters": 1, "all_parameters": 2, "examples": 100, "detectable": {3: 16.0},
        "watts": 20.0, "price_per_hour": 3.0, "recorded": 7, "seconds_range": (900.0, 3600.0),
        "memory_range": (3.9e8, 4.4e8), "advice": (),
    }  # fmt: skip
    return Prediction(**{**known, **changes})


def test_energy_and_price_by_hand():
    """1,800 s at 20 W are 36 kJ; half an hour at 3 is 1.5; the ends follow those of the time."""
    plain = prediction().plain()
    assert (plain["joules"], plain["money"]) == (36_000, 1.5)
    assert plain["joules_range"] == [18_000, 72_000] and plain["money_range"] == [0.75, 3.0]


def test_it_is_told_with_its_intervals():
    told = str(prediction())
    for line in (
        "memory      0.40 GB at the peak, 1.0 GB available: fits",
        "time        1,800 s of training in 10 steps, 1,000 tokens",
        "energy      36 kJ of training at 20 W, an estimate",
        "money       1.5 for training at 3 an hour",
        "interval    0.39 to 0.44 GB, 900 to 3,600 s, 18 to 72 kJ, money 0.75 to 3: 8 of 10 such runs, by 7 runs recorded here",
    ):
        assert line in told


@pytest.mark.parametrize(("recorded", "told"), [(0, "0 runs"), (1, "1 run"), (4, "4 runs")])
def test_too_few_runs_give_no_interval(recorded, told):
    few = prediction(recorded=recorded, seconds_range=None, memory_range=None)
    assert f"interval    none: {told} recorded here, 5 needed" in str(few)
    assert few.plain()["joules_range"] is None and few.plain()["joules"] == 36_000


def test_without_a_price_or_a_reading_of_power_nothing_is_made_up():
    bare = prediction(watts=None, price_per_hour=None)
    assert "energy" not in str(bare) and "money" not in str(bare)
    assert bare.plain()["joules"] is None is bare.plain()["money"] is bare.plain()["money_range"]
