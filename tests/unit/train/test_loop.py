"""The loop: micro-batches change nothing, hooks come in order, a run can be driven, stopped and taken back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tunewright.adapters import Full, LoRA
from tunewright.errors import Interrupted
from tunewright.hooks import Hook
from tunewright.optimize.optimizers import SGD, AdamW
from tunewright.optimize.schedules import Constant, Linear
from tunewright.testing.optimizers import assert_same_place
from tunewright.testing.runs import Steps, attach, differs, disturb, tiny_loop, tiny_policy, usual_parts
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.loop import Settings

TABLE = random_table((9,) * 8)
WAYS = {
    "8 x 1": Settings(micro_batch_tokens=9), "4 x 2": Settings(micro_batch_tokens=18),
    "2 x 4": Settings(micro_batch_tokens=36), "1 x 8": Settings(micro_batch_tokens=72),
    "packed": Settings(micro_batch_tokens=40, layout="packed"), "tiny": Settings(micro_batch_tokens=1),
}  # fmt: skip


class Moments(Hook):
    """Writes down every moment, and the gradient when it is averaged."""

    def __init__(self):
        self.log, self.gradients = [], []

    def on_start(self, loop):
        self.log.append("start")

    def on_batch(self, loop, batch):
        self.log.append("batch")
        return batch

    def after_backward(self, loop):
        self.log.append("backward")
        self.gradients.append(torch.cat([p.grad.flatten().clone() for p in loop.trained]))

    def before_step(self, loop):
        self.log.append(f"before {loop.optimizer.param_groups[0]['lr']:g}")

    def after_step(self, loop, step):
        self.log.append(f"after {loop.state.step} {step.step}")

    def on_end(self, loop):
        self.log.append("end")


def whole_step(settings, adapter=None, steps=3):
    moments, kept = Moments(), Steps()
    plan = plan_of(TABLE, steps=steps, tokens_per_step=10_000)
    loop = tiny_loop(
        {"adapter": adapter or LoRA(rank=4)}, table=TABLE, plan=plan, settings=settings, hooks=[moments, kept]
    )
    disturb(loop.attached)
    loop.run()
    return moments, kept


@pytest.mark.parametrize("adapter", [LoRA(rank=4), Full()], ids=["lora", "full"])
def test_micro_batches_change_neither_loss_nor_gradient(adapter):
    found = {name: whole_step(settings, adapter) for name, settings in WAYS.items()}
    one, kept = found["1 x 8"]
    for name, (other, steps) in found.items():
        assert len([m for m in other.log if m == "batch"]) >= 3, name
        assert differs(one.gradients[0], other.gradients[0]) <= 1e-5, name
        for a, b in zip(kept.done, steps.done, strict=True):
            assert b.loss == pytest.approx(a.loss, rel=1e-5)
            assert b.tokens == a.tokens == 72
            assert b.sources == pytest.approx(a.sources, rel=1e-5)
    assert found["8 x 1"][0].log.count("batch") == 24


def test_loss_and_gradient_are_of_the_weighted_mean_over_the_step():
    moments, kept = whole_step(WAYS["2 x 4"], steps=1)
    policy = tiny_policy()
    attached = attach(LoRA(rank=4), policy)
    disturb(attached)
    summed = 0.0
    total = weight = 0.0
    by_source = {0: [0.0, 0.0], 1: [0.0, 0.0]}
    for index in range(len(TABLE)):
        part = slice(int(TABLE.starts[index]), int(TABLE.starts[index + 1]))
        ids, weights = torch.from_numpy(TABLE.ids[part]).long(), torch.from_numpy(TABLE.weights[part]).double()
        logs = policy.model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        losses = -logs[:-1].gather(-1, ids[1:, None])[:, 0] * weights[1:]
        summed = summed + losses.sum()
        total, weight = total + losses.sum().item(), weight + weights.sum().item()
        by_source[index % 2][0] += losses.sum().item()
        by_source[index % 2][1] += weights.sum().item()
    assert kept.done[0].loss == pytest.approx(total / weight, rel=1e-5)
    wanted = torch.autograd.grad(summed / weight, list(attached.trained().values()))
    assert differs(torch.cat([g.flatten() for g in wanted]), moments.gradients[0]) <= 1e-5
    assert kept.done[0].sources == pytest.approx({s: t / w for s, (t, w) in by_source.items()}, rel=1e-5)


def test_rows_without_weight_count_alike_in_every_cut():
    weights = TABLE.weights.copy()
    weights[: 9 * 3] = 0.0
    table = replace(TABLE, weights=weights)
    seen = set()
    for settings in WAYS.values():
        kept = Steps()
        plan = plan_of(table, steps=1, tokens_per_step=10_000)
        tiny_loop(table=table, plan=plan, settings=settings, hooks=[kept]).run()
        seen.add((kept.done[0].tokens, round(kept.done[0].loss, 4)))
    assert len(seen) == 1


def test_hooks_come_in_order():
    moments = Moments()
    parts = {"optimizer": SGD(lr=0.5), "schedule": Linear(warmup=0)}
    plan = plan_of(TABLE, steps=2, tokens_per_step=10_000)
    tiny_loop(parts, table=TABLE, plan=plan, settings=Settings(micro_batch_tokens=36), hooks=[moments]).run()
    assert moments.log == [
        "start", "batch", "batch", "backward", "before 0.5", "after 1 1", "batch", "batch", "backward", "before 0.25",
        "after 2 2", "end",
    ]  # fmt: skip


def test_what_a_hook_makes_of_a_batch_is_trained_on():
    class Silence(Hook):
        def on_batch(self, loop, batch):
            return replace(batch, weights=batch.weights * (batch.indices[:, None] == 3))

    kept = Steps()
    plan = plan_of(TABLE, steps=1, tokens_per_step=10_000)
    tiny_loop(table=TABLE, plan=plan, hooks=[Silence(), kept]).run()
    assert list(kept.done[0].sources) == [1]


@pytest.mark.parametrize("clip", [None, 1e-3, 1e9])
def test_clipping(clip):
    norms = []

    class Norm(Hook):
        def before_step(self, loop):
            norms.append(float(torch.cat([p.grad.flatten() for p in loop.trained]).norm()))

    kept = Steps()
    tiny_loop(settings=Settings(clip=clip, micro_batch_tokens=32), hooks=[Norm(), kept], steps=2).run()
    wanted = [min(step.gradient_norm, clip or 1e30) for step in kept.done]
    assert norms == pytest.approx(wanted, rel=1e-4)


def test_the_adapter_reacts_after_the_optimizer_and_its_term_joins_the_loss(monkeypatch):
    calls = []
    loop = tiny_loop({"optimizer": SGD(lr=0.0001), "schedule": Constant(warmup=0)}, steps=1, hooks=[kept := Steps()])
    bare = tiny_loop(steps=1, hooks=[plain := Steps()])
    before = [p.detach().clone() for p in loop.trained]
    monkeypatch.setattr(loop.attached, "penalty", lambda: torch.tensor(2.5))

    def after_step(optimizer, step):
        calls.append((step, any(not torch.equal(a, b) for a, b in zip(before, loop.trained, strict=True))))

    monkeypatch.setattr(loop.attached, "after_step", after_step)
    loop.run()
    bare.run()
    assert calls == [(0, True)]
    assert kept.done[0].loss == pytest.approx(plain.done[0].loss + 2.5, rel=1e-5)


def test_a_driven_run_equals_a_run():
    one, other = (tiny_loop(steps=6) for _ in range(2))
    one.run()
    for steps in (1, 0, 2, 3, 5):
        other.advance(steps)
    assert_same_place(one, other)
    assert one.state.step == 6


def test_dropout_is_a_function_of_seed_and_step():
    parts = {"adapter": LoRA(rank=4, dropout=0.5)}
    one, other = (tiny_loop(parts, steps=4) for _ in range(2))
    one.run()
    other.advance(2)
    torch.randn(1000)
    other.advance(2)
    assert_same_place(one, other)
    third = tiny_loop(parts, steps=4, settings=Settings(seed=1, micro_batch_tokens=32))
    third.run()
    assert not torch.equal(one.trained[0], third.trained[0])


@pytest.mark.parametrize("adapter", [LoRA(rank=4), LoRA(rank=4, train_modules=("norm",)), Full()])
def test_snapshots_bring_back_every_bit(adapter):
    loop = tiny_loop({"adapter": adapter, "optimizer": AdamW(lr=0.1)}, steps=6)
    loop.advance(2)
    snapshot, twin = loop.snapshot(), tiny_loop({"adapter": adapter, "optimizer": AdamW(lr=0.1)}, steps=6)
    twin.advance(2)
    loop.advance(3)
    loop.restore(snapshot)
    assert_same_place(twin, loop)
    loop.advance(1)
    loop.restore(snapshot)
    assert_same_place(twin, loop)
    assert all(p.grad is None for p in loop.trained)


def test_a_stopped_run_says_so_and_can_go_on():
    class Stop(Hook):
        def after_step(self, loop, step):
            loop.interrupted = step.step == 2

    moments = Moments()
    loop, whole = tiny_loop(steps=5, hooks=[Stop(), moments]), tiny_loop(steps=5)
    with pytest.raises(Interrupted, match="stopped after step 2 of 5") as caught:
        loop.run()
    assert caught.value.status == 130 and moments.log[-1] == "end"
    loop.interrupted = False
    loop.run()
    whole.run()
    assert_same_place(whole, loop)


def test_a_hook_may_end_the_run():
    class Enough(Hook):
        def after_step(self, loop, step):
            loop.finished = step.step == 3

    loop = tiny_loop(steps=9, hooks=[Enough()])
    loop.run()
    assert loop.state.step == 3


def test_tokens_are_counted_without_padding():
    table = random_table()
    kept = Steps()
    loop = tiny_loop(table=table, steps=4, hooks=[kept])
    loop.run()
    wanted = [int(np.sum(table.lengths[loop.plan.step(step)])) for step in range(4)]
    assert [step.tokens for step in kept.done] == wanted and loop.state.tokens == sum(wanted)


def test_usual_parts_are_methods():
    assert set(usual_parts()) == {"adapter", "objective", "optimizer", "schedule"}
