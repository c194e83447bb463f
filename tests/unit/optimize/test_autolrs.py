"""AutoLRS: forecasts of loss curves, the search from a snapshot, the schedule it leaves."""

import math

import numpy as np
import pytest

from tunewright.optimize.schedules import AutoLRS
from tunewright.optimize.schedules._loss_curve import cleaned, fit, forecast
from tunewright.testing.runs import Steps, differing_bits, tiny_loop

STEPS = np.arange(100.0)


@pytest.mark.parametrize("curve", [(2, -0.05, 1), (2, -0.01, 1), (1, -0.003, 2.5), (3, -0.2, 1)])
def test_the_fit_recovers_a_noiseless_fall(curve):
    a, b, c = curve
    assert fit(STEPS, a * np.exp(b * STEPS) + c) == pytest.approx(curve, abs=1e-3)


@pytest.mark.parametrize(("smooth", "within"), [("none", 0.03), ("spline", 0.2)])
@pytest.mark.parametrize("curve", [(2, -0.05, 1), (2, -0.03, 1), (3, -0.2, 1)])
def test_forecasts_ten_times_as_far_with_noise(curve, smooth, within):
    a, b, c = curve
    noise = np.random.default_rng(0).normal(1, 0.01, 100)
    found = forecast(list((a * np.exp(b * STEPS) + c) * noise), 1000, smooth, 0.03)
    assert found == pytest.approx(a * np.exp(b * 1000) + c, rel=within)


@pytest.mark.parametrize("points", [6, 16])
def test_short_curves_lose_no_point(points):
    values = np.random.default_rng(1).normal(2, 0.5, points)
    at, kept = cleaned(np.arange(float(points)), values, 0.03)
    assert (at.tolist(), kept.tolist()) == (list(range(points)), values.tolist())


def test_a_curve_of_held_out_losses_may_lose_one_point():
    values = 2 * np.exp(-0.05 * np.arange(16.0)) + 1
    values[3] += 5.0
    at, _ = cleaned(np.arange(16.0), values, None)
    assert at.tolist() == [0, 1, 2, *range(4, 16)]


def test_outliers_of_the_first_half_are_dropped():
    # A spline whose squared residuals may sum to the number of points follows larger spikes instead.
    values = 2 * np.exp(-0.05 * STEPS) + 1
    values[[10, 80]] += 4.0
    at, _ = cleaned(STEPS, values, 0.03)
    assert 10 not in at and 80 in at


def test_few_losses_are_averaged_and_infinite_ones_refused():
    assert forecast([9.0, 9.0, 9.0, 3.0, 2.0, 4.0], 60, "spline", 0.03) == 3.0
    assert forecast([1.0, float("nan")], 60, "spline", 0.03) == 1e6


def searched():
    loop, search, probed = searched_with({"probe": 0.5}, 8)
    loop.hooks.append(steps := Steps())
    return loop, search, steps, probed


def searched_with(options, steps):
    method = AutoLRS(**{"warmup": 0, "stage": 4, "longest_stage": 4, "rates": 3, **options})
    loop = tiny_loop({"schedule": method}, steps=steps)
    search, probed = loop.hooks[0], []
    usual = loop.probe
    loop.probe = lambda steps, factor: probed.append((steps, factor)) or usual(steps, factor)
    return loop, search, probed


def test_every_stage_costs_its_probes_and_takes_the_lowest_forecast():
    loop, search, steps, probed = searched()
    loop.run()
    assert [(s["start"], s["steps"]) for s in search.stages] == [(0, 4), (4, 4)]
    assert [n for n, _ in probed] == [2] * 6
    assert len(steps.done) == 8
    for stage in search.stages:
        assert stage["factor"] == stage["tried"][int(np.argmin(stage["forecasts"]))]
        assert len(set(stage["tried"])) == 3 and all(1e-4 <= rate <= 1 for rate in stage["tried"])
    rates = [step.lr for step in steps.done]
    assert rates == pytest.approx([1e-2 * s["factor"] for s in search.stages for _ in range(4)])


def test_searching_leaves_weights_and_optimizer_as_they_were():
    loop, search, _, _ = searched()
    search.on_start(loop)
    loop.hooks = []
    loop.advance(2)
    before = loop.snapshot()
    search.on_step(loop)
    assert search.stages
    assert not differing_bits(before["trained"], loop.attached.state())
    after = loop.snapshot()
    assert before["state"] == after["state"]
    for one, other in zip(before["optimizer"]["state"].values(), after["optimizer"]["state"].values(), strict=True):
        assert not differing_bits(one, other)


def test_stages_double_up_to_the_longest():
    method = AutoLRS(warmup=0, stage=1, longest_stage=4, probe=1.0, rates=1)
    loop = tiny_loop({"schedule": method}, steps=12)
    loop.run()
    assert [s["steps"] for s in loop.hooks[0].stages] == [1, 2, 4, 4, 4]


def measured(steps=12, **options):
    """A run of stages of 4 steps, all but the first judged by held-out rows."""
    return searched_with({"validated": 4, "probe": 1.0, "held_out": 3, "val_points": 2, **options}, steps)


def test_later_stages_are_judged_by_rows_that_never_train():
    loop, search, probed = measured()
    losses = []
    usual = search._held_loss
    search._held_loss = lambda loop: losses.append(usual(loop)) or losses[-1]
    loop.run()
    assert len(search.held) == 3
    drawn = {int(unit) for step in range(200) for unit in loop.plan.step(step)}
    assert drawn == set(range(len(loop.table))) - set(search.held.tolist())
    # Once before the first step; then at 2 points of each of 3 probes in two of the three stages.
    assert len(losses) == 1 + 2 * 2 * 3 and search.first == losses[0]
    assert [n for n, _ in probed] == [4] * 3 + [2] * 12
    # Fewer than 8 points are not fitted: the forecast is the last one.
    for stage, own in zip(search.stages[1:], (losses[1:7], losses[7:]), strict=True):
        assert [loss for curve in stage["held_out"] for loss in curve] == own and stage["forecasts"] == own[1::2]


def test_rows_are_kept_only_by_a_run_that_comes_to_measure_them():
    for steps, held in ((4, 0), (5, 3), (12, 3)):
        loop, search, _ = measured(steps)
        search.on_start(loop)
        assert len(search.held) == held
    assert not AutoLRS(warmup=0).validates(1000 + 2000 + 4000 + 8000)
    assert AutoLRS(warmup=0).validates(1000 + 2000 + 4000 + 8000 + 1)


def test_a_probe_that_reaches_the_first_loss_is_judged_by_its_last():
    search = AutoLRS(smooth="none").hook()
    rises = [2.0, *[3.5 - 0.1 * k for k in range(15)]]
    search.first = 3.0
    assert search._validated(rises, 8000) == rises[-1]
    search.first = 4.0
    assert search._validated(rises, 8000) != rises[-1]


def test_a_curve_measured_16_times_is_read_at_the_end_of_the_stage():
    search = AutoLRS(smooth="none").hook()
    search.first = 9.0
    fall = lambda steps: 2 * math.exp(-0.002 * steps) + 1
    losses = [fall(50 * point) for point in range(1, 17)]  # a probe of 800 steps
    assert search._validated(losses, 8000) == pytest.approx(fall(8000), abs=1e-6)


def test_a_held_out_loss_that_is_not_finite_is_not_chosen():
    search = AutoLRS().hook()
    search.first = 3.0
    assert search._validated([2.0, math.nan], 8000) == 1e6


def test_what_was_found_is_replayed_after_a_restart():
    loop, search, _, _ = searched()
    loop.run()
    again = AutoLRS(warmup=0).hook()
    again.load_state(search.state())
    assert [again.factor(s, 8) for s in range(8)] == [search.factor(s, 8) for s in range(8)]


def test_a_rate_that_diverges_is_not_chosen():
    method = AutoLRS()
    tried, forecasts = [1.0, 0.1, 0.01], [1e6, 2.0, 1.5]
    assert method.proposed(tried, forecasts, [0, 0]) not in tried
    assert AutoLRS(kappa=0).proposed(tried, forecasts, [0, 0]) < 0.1
