"""Balanced tasks: the formulas by hand, gradients, and weights that follow convergence."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tunewright.catalog import Method
from tunewright.data.order import MFTMultitaskLoss
from tunewright.data.order._balance import Slope, Speed, converging, slopes
from tunewright.data.order.mft_multitask_loss import focal
from tunewright.errors import BadInput
from tunewright.objectives.base import token_loss
from tunewright.recipe import Recipe
from tunewright.testing.runs import Steps, tiny_loop
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.loop import Settings

MODES = ("token", "sample", "task_token", "task_sample", "focal")


def step_loss(rows, mode, micro=10_000, silent=None, **options):
    """Loss of one step whose rows are (task, losses of its tokens), and the gradient by those token losses; the rows of
    the task `silent` carry no weight."""
    lengths = [len(losses) + 1 for _, losses in rows]
    table = random_table(lengths, sources=1, graded=False)
    weights = np.ones_like(table.weights)
    weights[table.starts[:-1]] = 0.0
    for row, (task, _) in enumerate(rows):
        if task == silent:
            weights[table.starts[row] : table.starts[row + 1]] = 0.0
    columns = {**table.columns, "source": np.asarray([task for task, _ in rows])}
    table = replace(table, weights=weights, columns=columns)
    values = torch.tensor([loss for _, losses in rows for loss in losses], requires_grad=True)
    starts = np.cumsum([0, *(len(losses) for _, losses in rows)])

    loop = tiny_loop(
        {"order": MFTMultitaskLoss(mode=mode, **options)},
        table=table,
        plan=plan_of(table, steps=1, tokens_per_step=10_000),
        settings=Settings(micro_batch_tokens=micro),
    )
    [hook] = [hook for hook in loop.hooks if hasattr(hook, "scheme")]
    hook.on_step(loop)
    total = weight = 0.0
    for batch in loop.prepared(0, loop.batches(0)):
        at_rows, cols = batch.kept
        own = values[torch.from_numpy(starts)[batch.indices[at_rows]] + cols - 1]
        loss = hook.on_loss(loop, batch, token_loss(own, batch))
        total, weight = total + loss.total, weight + loss.weight
    mean = total / weight
    mean.backward()
    return mean.item(), values.grad


TWO = [(0, [1.0] * 10), (1, [3.0] * 2)]


@pytest.mark.parametrize("micro", [3, 10_000])
def test_two_tasks_by_hand(micro):
    assert step_loss(TWO, "token", micro)[0] == pytest.approx(16 / 12)
    loss, gradient = step_loss(TWO, "task_token", micro)
    assert loss == pytest.approx(2.0)
    assert gradient[:10].tolist() == pytest.approx([1 / (2 * 10)] * 10)
    assert gradient[10:].tolist() == pytest.approx([1 / (2 * 2)] * 2)


def test_one_task_is_the_plain_mean():
    one = [(0, [3.0] * 4), (0, [1.0])]
    swapped = [(0, [1.0] * 4), (0, [3.0])]
    assert step_loss(swapped, "token")[0] == pytest.approx(1.4)
    assert step_loss(swapped, "sample")[0] == pytest.approx(2.0)
    for rows in (one, swapped):
        assert step_loss(rows, "task_token")[0] == pytest.approx(step_loss(rows, "token")[0])
        assert step_loss(rows, "task_sample")[0] == pytest.approx(step_loss(rows, "sample")[0])


MIXED = [(0, [0.2, 1.5, 0.7]), (1, [3.0]), (0, [2.0] * 5), (1, [0.1, 0.4]), (2, [1.0, 2.0])]


def test_focal_by_the_formula():
    def by_hand(values, gamma):
        terms, at = {}, 0
        for task, losses in MIXED:
            q = -values[at : at + len(losses)].mean()
            terms.setdefault(task, []).append(-((1 - q.exp()) ** gamma) * q)
            at += len(losses)
        return torch.stack([torch.stack(term).mean() for term in terms.values()]).mean()

    for gamma in (0.0, 1.0, 2.0):
        values = torch.tensor([loss for _, losses in MIXED for loss in losses], dtype=torch.float64, requires_grad=True)
        wanted = by_hand(values, gamma)
        wanted.backward()
        for micro in (3, 10_000):
            loss, gradient = step_loss(MIXED, "focal", micro, focal_gamma=gamma)
            assert loss == pytest.approx(wanted.item(), rel=1e-5)
            assert gradient.tolist() == pytest.approx(values.grad.tolist(), rel=1e-4, abs=1e-7)


def test_focal_with_exponent_zero_is_task_sample():
    loss, gradient = step_loss(MIXED, "focal", focal_gamma=0.0)
    wanted, other = step_loss(MIXED, "task_sample")
    assert loss == pytest.approx(wanted) and torch.allclose(gradient, other)


def test_focal_survives_a_row_that_is_certain():
    table = random_table([5], sources=1)
    loop = tiny_loop(table=table, plan=plan_of(table, steps=1, tokens_per_step=100))
    [batch] = loop.batches(0)
    values = torch.zeros(len(batch.kept[0]), requires_grad=True)
    focal(token_loss(values, batch), 0.5).total.backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("mode", MODES)
def test_an_absent_task_changes_nothing(mode):
    without = [row for row in MIXED if row[0] != 2]
    assert step_loss(MIXED, mode, silent=2)[0] == pytest.approx(step_loss(without, mode)[0])
    assert step_loss(MIXED, mode)[0] != pytest.approx(step_loss(without, mode)[0])


def test_speed_by_hand():
    speed = Speed(3, lr=0.025, decay=0.0)
    speed.update(torch.tensor([0.5, 0.1, 0.0], dtype=torch.float64))
    assert [round(z, 4) for z in speed.shares.tolist()] == [0.3325, 0.3336, 0.3339]


def test_equal_falls_leave_speed_as_it_is():
    speed = Speed(3, lr=0.025, decay=0.0)
    speed.take(torch.tensor([1.0, 2.0, 4.0]))
    speed.take(torch.tensor([0.5, 1.0, 2.0]))
    assert speed.shares.tolist() == pytest.approx([1 / 3] * 3, abs=1e-15)


def test_speed_gives_the_gradient_of_log_losses():
    speed = Speed(2, lr=1.0, decay=0.0)
    speed.update(torch.tensor([0.7, -0.2], dtype=torch.float64))
    losses = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    a = speed.weights(losses.detach())
    (a * losses).sum().div(a.sum()).backward()
    wanted = speed.shares / losses.detach()
    assert losses.grad.tolist() == pytest.approx((wanted / wanted.sum()).tolist())


def test_slopes_are_those_of_least_squares():
    values = torch.tensor([[1.0, 3.0], [0.5, 1.0], [0.4, 2.0], [0.1, 1.5]], dtype=torch.float64)
    wanted = [np.polyfit(np.arange(4), values[:, i].numpy(), 1)[0] for i in range(2)]
    assert slopes(values) == pytest.approx(wanted)


def test_tasks_that_fall_slowly_weigh_more_while_all_fall():
    kept = [[-0.1, -0.02, -0.02]] * 3 + [[-0.1, -0.02, -0.05]]
    found = converging(kept, 5.0)
    assert found[1] > found[0] and found.sum() == pytest.approx(1.0)


def test_weights_by_slope_by_hand():
    kept = [[-0.3, -0.1, -0.1], [-0.2, -0.2, -0.2]]
    softmax = lambda x: np.exp(x) / np.exp(x).sum()
    own, whole = np.asarray(kept)[:, :2], np.asarray(kept)[:, 2]
    relative = softmax(2 * own[-1] / 0.4)
    absolute = softmax(-2 * own[-1] / np.abs(own).sum(0))
    trust = min(1.0, 2 * softmax(-5.0 * 2 * whole / 0.3)[-1])
    wanted = softmax(2 * (trust * relative + (1 - trust) * absolute))
    assert converging(kept, 5.0).tolist() == pytest.approx(wanted.tolist())


def test_no_task_falls_below_a_tenth_of_its_equal_share():
    found = converging([[1.0] + [-1.0] * 19 + [1.0]] * 2, 5.0)
    assert found.min() >= 1 / 200


def test_slopes_wait_for_the_warm_up():
    slope = Slope(2, warmup=3, history=4, tau=5.0)
    for loss in (2.0, 1.8, 1.7):
        slope.take(torch.tensor([loss, 1.0]))
        assert slope.weights(None).tolist() == [1.0, 1.0]
    slope.take(torch.tensor([1.5, 1.0]))
    assert slope.weights(None)[1] > slope.weights(None)[0]
    assert slope.losses[0] == [1.0, 1.0]


@pytest.mark.parametrize("scheme", ["speed", "slope"])
def test_held_out_rows_are_never_trained_on(scheme):
    table = random_table()
    method = MFTMultitaskLoss(scheme=scheme, held_out=2)
    held = set(method.held(table, 0).tolist())
    assert len(held) == 4 and {int(table.columns["source"][row]) for row in held} == {0, 1}
    plan = method.plan(plan_of(table, steps=20), table)
    assert not held & {int(row) for step in range(20) for row in plan.step(step)}


def test_a_task_of_one_row_is_not_measured():
    with pytest.raises(BadInput, match="both trained and measured"):
        MFTMultitaskLoss(scheme="slope", column="line").plan(plan_of(random_table()), random_table())


def test_speed_learns_weights_in_a_run():
    steps = Steps()
    loop = tiny_loop({"order": MFTMultitaskLoss(scheme="speed", famo_lr=0.5)}, hooks=[steps], steps=6)
    loop.run()
    [hook] = [hook for hook in loop.hooks if hasattr(hook, "scheme")]
    z = hook.scheme.shares
    assert z.sum() == pytest.approx(1.0) and z[0] != z[1] and len(steps.done) == 6


def recipe(**keys) -> Recipe:
    return Recipe.of(model="nano", data={"train": "nano:arithmetic/train", "order": keys.pop("order")}, **keys)


def test_what_it_weighs_must_be_a_mean_over_tokens():
    order = {"method": "mft_multitask_loss", "mode": "focal"}
    assert isinstance(recipe(order=order).data.order, Method)
    with pytest.raises(BadInput, match="wants the objective to be"):
        recipe(order=order, objective="dft")
    with pytest.raises(BadInput, match="wants the objective to be"):
        recipe(order="mft_multitask_loss", objective="poft")
    with pytest.raises(BadInput, match="does not know"):
        recipe(order={**order, "mode": "sample", "scheme": "slope"})
