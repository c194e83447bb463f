"""The power schedule against its numbers."""

import pytest

from tunewright.optimize.schedules import Power
from tunewright.testing.runs import Steps, tiny_loop

FITTED = Power(warmup=0, amplitude=0.5, decay=0.0)


def at(schedule, step, total=100_000, tokens=1000.0, sequences=8.0):
    return schedule.at(step, total, tokens, sequences)


def test_doubling_the_tokens_multiplies_by_two_to_the_exponent():
    assert at(FITTED, 1999) / at(FITTED, 999) == pytest.approx(2**-0.51)
    assert round(2**-0.51, 4) == 0.7022


def test_doubling_the_batch_doubles_the_rate():
    assert at(FITTED, 999, sequences=16.0) == pytest.approx(2 * at(FITTED, 999))


def test_the_papers_cap_ends_at_113_million_tokens():
    schedule = Power(warmup=0)
    capped = lambda tokens: at(schedule, 0, 10, tokens, 64.0) == 1.0
    assert capped(1.12e8) and not capped(1.14e8)


@pytest.mark.parametrize("ending", ["exponential", "linear"])
def test_continuous_at_both_joints_and_ends_where_it_says(ending):
    schedule = Power(warmup=1000, amplitude=0.5, decay=0.1, ending=ending)
    total = 100_000
    found = [at(schedule, step, total) for step in range(total)]
    joints = [1000, 1000 + round(0.9 * 99_000)]
    assert all(abs(found[j] - found[j - 1]) < 2e-3 * found[j] for j in joints)
    start, end = found[joints[1]], {"exponential": 0.01, "linear": 0.0}[ending]
    assert found[-1] / start == pytest.approx(end, abs=2e-4)
    assert found[999] == max(found)


def test_what_comes_before_the_decay_does_not_depend_on_the_length():
    schedule = Power(warmup=50, amplitude=0.5)
    short, long = ([at(schedule, step, total) for step in range(900)] for total in (1000, 5000))
    assert short == long


def test_without_decay_it_only_follows_the_power():
    found = [at(FITTED, step, 1000) for step in range(1000)]
    assert found == [at(FITTED, step, 10**9) for step in range(1000)]


def test_a_run_takes_tokens_and_sequences_from_its_plan():
    steps = Steps()
    schedule = Power(warmup=0, amplitude=2.0, decay=0)
    loop = tiny_loop({"schedule": schedule}, hooks=[steps])
    loop.run()
    tokens = loop.plan.tokens_per_step
    sequences = tokens / loop.plan.lengths.mean()
    wanted = [1e-2 * min(1, 2.0 * sequences * (tokens * (n + 1)) ** -0.51) for n in range(8)]
    assert [step.lr for step in steps.done] == pytest.approx(wanted)
    assert wanted[-1] < wanted[0]
