"""What every objective promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tunewright.objectives.base import Objective
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, differs, disturb, gradient, layouts, tiny_policy, usual_parts
from tunewright.testing.tables import random_table

Literal = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, float]]
"""(logits float64 [length, vocabulary], ids [length], weights float64 [length]) -> (sum of the loss, its weight) of
one sequence; `logits[i]` predicts `ids[i + 1]`."""

TABLE = random_table()


class ObjectiveContract:
    """Tests of one objective; a subclass gives the fixture `method`."""

    def test_loss_and_gradient_are_the_same_in_every_layout(self, method: Objective) -> None:
        policy, attached = _tuned()
        found = {name: gradient(policy, attached, method, way) for name, way in layouts(TABLE).items()}
        vector, loss = found["1 x all"]
        assert vector.norm() > 0
        apart = {name: differs(vector, other) for name, (other, _) in found.items()}
        assert max(apart.values()) <= 1e-5, apart
        losses = {name: other for name, (_, other) in found.items()}
        assert max(abs(other - loss) for other in losses.values()) <= 1e-5 * abs(loss), losses

    def test_gradient_reaches_exactly_the_trained_parameters(self, method: Objective) -> None:
        policy, attached = _tuned()
        gradient(policy, attached, method, layouts(TABLE)["1 x all"])
        trained = attached.trained()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
        ids = {id(p) for p in trained.values()}
        assert all(p.grad is None for p in policy.parameters() if id(p) not in ids)

    def test_account_per_sequence_adds_up(self, method: Objective) -> None:
        policy, _ = _tuned()
        for way in layouts(TABLE).values():
            for batch in way:
                loss = method.loss(policy, batch)
                total, weight = loss.per_sequence
                assert total.shape == weight.shape == (len(batch.indices),)
                assert not total.requires_grad
                assert torch.allclose(total.sum(), loss.total, rtol=1e-5)
                assert torch.allclose(weight.sum(), loss.weight, rtol=1e-5)

    def test_a_batch_without_weight_has_no_loss(self, method: Objective) -> None:
        policy, _ = _tuned()
        batch = layouts(TABLE)["1 x all"][0]
        batch.weights.zero_()
        loss = method.loss(policy, batch)
        assert loss.total.item() == 0 and float(loss.weight) == 0

    def test_the_same_twice(self, method: Objective) -> None:
        policy, attached = _tuned()
        one, other = (gradient(policy, attached, method, layouts(TABLE)["2 x half"]) for _ in range(2))
        assert torch.equal(one[0], other[0]) and one[1] == other[1]


def assert_equals_literal(method: Objective, literal: Literal, within: float = 1e-5) -> None:
    """Raises `AssertionError` unless loss and gradient equal a formula written out in float64 over full logits."""
    policy, attached = _tuned()
    vector, loss = gradient(policy, attached, method, layouts(TABLE)["2 x half"])
    double, twin = _tuned(torch.float64)
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for index in range(len(TABLE)):
        part = slice(int(TABLE.starts[index]), int(TABLE.starts[index + 1]))
        ids = torch.from_numpy(TABLE.ids[part]).long()
        logits = double.model(input_ids=ids[None], use_cache=False).logits[0]
        one, heavy = literal(logits, ids, torch.from_numpy(TABLE.weights[part]).double())
        total, weight = total + one, weight + heavy
    trained = list(twin.trained().values())
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(total / weight, trained)])
    assert abs(loss - total.item() / weight) <= within * abs(loss), (loss, total.item() / weight)
    assert differs(wanted, vector.double()) <= within, differs(wanted, vector.double())


def _tuned(dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    policy = tiny_policy(tiny())
    attached = attach(usual_parts()["adapter"], policy)  # type: ignore[arg-type]
    disturb(attached)
    if dtype != torch.float32:
        policy.to(dtype)
    return policy, attached
