"""What every optimizer promises."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from tunewright.errors import BadInput, NotFinite
from tunewright.optimize.optimizers.base import Optimizer
from tunewright.testing.runs import Steps, differing_bits, tiny_loop
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Loop

TABLE = random_table()
SHAPES = {"a.matrix": (6, 4), "a.bias": (4,), "b.matrix": (3, 5), "b.norm": (5,), "c.scalar": ()}


class OptimizerContract:
    """Tests of one optimizer; a subclass gives the fixture `method`."""

    def test_moves_every_parameter_that_has_a_gradient(self, method: Optimizer) -> None:
        before, after = _moved(method, skip="b.matrix")
        assert differing_bits(before, after) == sorted(set(SHAPES) - {"b.matrix"})

    def test_loss_falls_at_some_rate(self, method: Optimizer) -> None:
        falls = {}
        # One slope per step instead of a gradient takes many more steps.
        count = 200 if _forward_only(method) else 12
        for rate in (1e-3, 1e-2, 1e-1, 1.0):
            steps = Steps()
            plan = plan_of(TABLE, steps=count, tokens_per_step=10_000)
            parts = {"optimizer": method.model_copy(update={"lr": rate})}
            try:
                tiny_loop(parts, table=TABLE, plan=plan, hooks=[steps]).run()
            except NotFinite:
                continue
            falls[rate] = steps.done[0].loss - steps.done[-1].loss
            if falls[rate] > 0.1:
                return
        raise AssertionError(f"the loss falls by no more than 0.1: {falls}")

    def test_weight_decay_spares_norms_and_biases(self, method: Optimizer) -> None:
        plain = _moved(method.model_copy(update={"weight_decay": 0.0}))[1]
        decayed = _moved(method.model_copy(update={"weight_decay": 0.5}))[1]
        assert differing_bits(plain, decayed) == ["a.matrix", "b.matrix"]
        shorter = [decayed[name].norm() < plain[name].norm() for name in ("a.matrix", "b.matrix")]
        assert all(shorter)

    def test_rates_scale_the_learning_rate_of_what_they_name(self, method: Optimizer) -> None:
        plain = _moved(method)[1]
        before, still = _moved(method.model_copy(update={"rates": {"b.*": 0.0}}))
        assert differing_bits(before, still) == ["a.bias", "a.matrix", "c.scalar"]
        assert differing_bits(plain, still) == ["b.matrix", "b.norm"]
        twice = _moved(method.model_copy(update={"rates": {"a.matrix": 2.0}}))[1]
        faster = _moved(method.model_copy(update={"lr": 2 * method.lr}))[1]
        assert torch.equal(twice["a.matrix"], faster["a.matrix"])
        assert torch.equal(twice["b.matrix"], plain["b.matrix"])

    def test_rates_that_name_nothing_are_refused(self, method: Optimizer) -> None:
        try:
            method.model_copy(update={"rates": {"nothing": 1.0}}).build(_parameters())
        except BadInput as error:
            assert "nothing" in str(error)
        else:
            raise AssertionError("a pattern that matches no parameter was accepted")

    def test_groups_carry_the_peak_rate(self, method: Optimizer) -> None:
        optimizer = method.model_copy(update={"rates": {"a.*": 0.5}}).build(_parameters())
        assert {group["peak_lr"] for group in optimizer.param_groups} == {method.lr, 0.5 * method.lr}
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(SHAPES)

    def test_going_on_from_a_checkpoint_equals_not_stopping(self, method: Optimizer) -> None:
        whole, stopped, resumed = (tiny_loop({"optimizer": method}, steps=6) for _ in range(3))
        whole.advance(6)
        stopped.advance(3)
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder) / "step", *pack(stopped))
            unpack(resumed, Path(folder) / "step")
        assert_same_place(stopped, resumed)
        resumed.advance(3)
        assert_same_place(whole, resumed)

    def test_going_back_to_a_snapshot_forgets_what_came_after(self, method: Optimizer) -> None:
        straight, wandering = (tiny_loop({"optimizer": method}, steps=6) for _ in range(2))
        straight.advance(6)
        for taken in (0, 2):
            wandering.advance(taken - wandering.state.step)
            snapshot = wandering.snapshot()
            wandering.advance(2)
            wandering.restore(snapshot)
            assert wandering.state.step == taken
        wandering.advance(4)
        assert_same_place(straight, wandering)


def assert_same_place(one: Loop, other: Loop) -> None:
    """Raises `AssertionError` unless two loops stand at the same step with equal bits in weights and optimizer."""
    assert (one.state.step, one.state.tokens) == (other.state.step, other.state.tokens)
    assert not differing_bits(one.attached.state(), other.attached.state())
    (left, numbers), (right, others) = ((t["optimizer"], d["optimizer"]) for t, d in (pack(one), pack(other)))
    assert not differing_bits(left, right)
    assert numbers == others


def _parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def _moved(method: Optimizer, skip: str = "") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters before and after one step along a random gradient, or down a loss that has it."""
    parameters = _parameters()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    generator = torch.Generator().manual_seed(1)
    slopes = {name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name != skip)
        parameter.grad = None if name == skip else slopes[name]
    optimizer = method.build(parameters)
    if _forward_only(method):
        optimizer.step(lambda: sum(float((slopes[name] * p).sum()) for name, p in parameters.items()))
    else:
        optimizer.step()
    return before, {name: p.detach() for name, p in parameters.items()}


def _forward_only(method: Optimizer) -> bool:
    return getattr(method.build(_parameters()), "forward_only", False)
