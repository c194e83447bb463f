"""A loss or gradient that is not finite stops the run and says where, on what, and why."""

from dataclasses import replace

import pytest
import torch

from tunewright.adapters import Full, LoRA
from tunewright.errors import NotFinite
from tunewright.hooks import Hook
from tunewright.optimize.optimizers import SGD, AdamW
from tunewright.optimize.schedules import Constant
from tunewright.testing.models import tiny
from tunewright.testing.runs import Steps, tiny_loop
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.loop import Settings

STEADY = {"schedule": Constant(warmup=0)}


def stopped(loop):
    with pytest.raises(NotFinite) as caught:
        loop.run()
    assert caught.value.status == 3
    return str(caught.value)


def test_weights_that_were_never_finite():
    model = tiny()
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    message = stopped(tiny_loop(model=model))
    assert message.startswith("step 1 stopped: the loss is nan, first seen in the output of '")
    assert "layers.1.mlp.up_proj" in message
    assert "the pretrained weights hold values that are not finite" in message


def test_the_records_of_the_micro_batch_are_named():
    table = random_table()
    weights = table.weights.copy()
    weights[int(table.starts[4]) - 1] = float("inf")
    table = replace(table, weights=weights)
    plan = plan_of(table, steps=1, tokens_per_step=10_000)
    message = stopped(tiny_loop(table=table, plan=plan, settings=Settings(micro_batch_tokens=1)))
    assert "Records: rows.jsonl:4." in message, message
    assert "an extreme loss weight in the data" in message


@pytest.mark.parametrize("adapter", [LoRA(rank=4), Full()])
@pytest.mark.parametrize("optimizer", [SGD(lr=1e30), AdamW(lr=1e30)])
def test_an_extreme_learning_rate_is_named(adapter, optimizer):
    message = stopped(tiny_loop({**STEADY, "adapter": adapter, "optimizer": optimizer}, steps=8))
    assert "learning rate" in message and not message.startswith("step 1 ")


def test_a_weight_that_overflowed_is_named():
    class Overflow(Hook):
        def after_step(self, loop, step):
            if step.step == 2:
                loop.trained[3].data[0, 0] = float("inf")

    loop = tiny_loop(hooks=[Overflow()])
    name = list(loop.attached.trained())[3]
    assert f"step 3 stopped: the trained weight '{name}' is not finite" in stopped(loop)


def test_a_gradient_that_is_not_finite_names_its_parameter():
    loop = tiny_loop()
    name, parameter = list(loop.attached.trained().items())[5]
    parameter.register_hook(lambda g: torch.full_like(g, float("nan")))
    message = stopped(loop)
    assert f"the gradient of '{name}' is not finite" in message and "Records: rows.jsonl:" in message


def test_a_sum_that_overflows_has_an_answer_too():
    loop = tiny_loop(settings=Settings(micro_batch_tokens=1), plan=plan_of(random_table(), 1, 10_000))
    for parameter in loop.trained:
        parameter.register_hook(lambda g: torch.full_like(g, 1e38))
    assert stopped(loop).startswith("step 1 stopped: ")


def test_nothing_moves_in_the_step_that_failed():
    kept = Steps()

    class Break(Hook):
        def on_batch(self, loop, batch):
            factor = torch.where(batch.weights > 0, float("nan") if loop.state.step == 2 else 1.0, 1.0)
            return replace(batch, weights=batch.weights * factor)

    loop, twin = tiny_loop(hooks=[Break(), kept]), tiny_loop()
    stopped(loop)
    twin.advance(2)
    assert loop.state.step == 2 and len(kept.done) == 2
    assert all(torch.equal(a, b) for a, b in zip(loop.trained, twin.trained, strict=True))
