"""What every objective promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tunewright.data.batches import Batch, collate
from tunewright.data.table import Table
from tunewright.objectives.base import Objective
from tunewright.testing.models import tiny
from tunewright.testing.runs import (
    attach,
    differs,
    disturb,
    gradient,
    layouts,
    ready,
    supply,
    table_for,
    tiny_policy,
    usual_parts,
)


@dataclass(frozen=True)
class Seen:
    """One sequence as a formula sees it.

    `logits` float64 [length, vocabulary], of which row i predicts `ids[i + 1]`, with graph; `reference`, `teacher` the
    same of the models that do not train (`teacher` None where none is needed); `weights` float64 [length]; `hidden`
    float64 [length, width] is what `head` turns into logits; `columns` the sequence's own numbers.
    """

    logits: Tensor
    reference: Tensor
    teacher: Tensor | None
    ids: Tensor
    weights: Tensor
    hidden: Tensor
    head: Callable[[Tensor], Tensor]
    columns: Mapping[str, float]

    @property
    def logp(self) -> Tensor:
        """sum_i w_i log p(x_i | x_<i)."""
        return self._summed(self.logits)

    @property
    def reference_logp(self) -> Tensor:
        """The same of the reference."""
        return self._summed(self.reference)

    @property
    def weight(self) -> float:
        """The sum of the weights."""
        return float(self.weights[1:].sum())

    def _summed(self, logits: Tensor) -> Tensor:
        log = logits[:-1].log_softmax(-1)
        return (self.weights[1:] * log[torch.arange(len(self.ids) - 1), self.ids[1:]]).sum()


Literal = Callable[..., tuple[Tensor, float]]
"""The sequences of one unit, each `Seen` -> (sum of the loss, its weight)."""


class ObjectiveContract:
    """Tests of one objective; a subclass gives the fixture `method`."""

    def test_loss_and_gradient_are_the_same_in_every_layout(self, method: Objective) -> None:
        policy, attached = _tuned(method)
        found = {name: gradient(policy, attached, method, way) for name, way in _ways(method).items()}
        vector, loss = found["1 x all"]
        assert vector.norm() > 0
        apart = {name: differs(vector, other) for name, (other, _) in found.items()}
        assert max(apart.values()) <= 1e-5, apart
        losses = {name: other for name, (_, other) in found.items()}
        assert max(abs(other - loss) for other in losses.values()) <= 1e-5 * abs(loss), losses

    def test_gradient_reaches_exactly_the_trained_parameters(self, method: Objective) -> None:
        policy, attached = _tuned(method)
        gradient(policy, attached, method, _ways(method)["1 x all"])
        trained = attached.trained()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
        ids = {id(p) for p in trained.values()}
        assert all(p.grad is None for p in policy.parameters() if id(p) not in ids)

    def test_account_per_sequence_adds_up(self, method: Objective) -> None:
        policy, _ = _tuned(method)
        for way in _ways(method).values():
            for batch in ready(method, policy, way):
                loss = method.loss(policy, batch)
                total, weight = loss.per_sequence
                assert total.shape == weight.shape == (len(batch.indices),)
                assert total.requires_grad or "token_mean" not in method.traits
                assert torch.allclose(total.sum(), loss.total, rtol=1e-5)
                assert torch.allclose(weight.sum(), loss.weight, rtol=1e-5)
                assert all(part.shape == () and not part.requires_grad for part in loss.parts.values())

    def test_a_mean_over_tokens_follows_the_weights_of_rows(self, method: Objective) -> None:
        policy, _ = _tuned(method)
        for batch in ready(method, policy, _ways(method)["1 x all"]) if "token_mean" in method.traits else ():
            factors = torch.linspace(0.1, 3.0, len(batch.indices))
            scaled = replace(batch, weights=batch.weights * factors[batch.sequence.clamp(min=0)])
            plain, other = (method.loss(policy, one).per_sequence for one in (batch, scaled))
            for one, two in zip(plain, other, strict=True):
                assert torch.allclose(one * factors, two, rtol=1e-4, atol=1e-6)

    def test_a_batch_without_weight_has_no_loss(self, method: Objective) -> None:
        policy, _ = _tuned(method)
        batch = _ways(method)["1 x all"][0]
        batch.weights.zero_()
        [batch] = ready(method, policy, [batch])
        loss = method.loss(policy, batch)
        assert loss.total.item() == 0 and float(loss.weight) == 0

    def test_the_same_twice(self, method: Objective) -> None:
        policy, attached = _tuned(method)
        one, other = (gradient(policy, attached, method, _ways(method)["2 x half"]) for _ in range(2))
        assert torch.equal(one[0], other[0]) and one[1] == other[1]


def assert_equals_literal(
    method: Objective, literal: Literal, within: float = 1e-5, together: int | None = None
) -> None:
    """Raises `AssertionError` unless loss and gradient equal a formula written out in float64 over full logits.

    The formula is given the sequences of a unit, or `together` of them.
    """
    table = table_for(method)
    policy, attached = _tuned(method)
    ready_batches = ready(method, policy, layouts(table)["all x 1"])
    vector, loss = gradient(policy, attached, method, layouts(table)["2 x half"])
    double, twin = _tuned(method, torch.float64)
    seen = _seen(double, table, ready_batches, "teacher" in method.needs)
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    size = together or table.together
    for start in range(0, len(table), size):
        one, heavy = literal(*seen[start : start + size])
        total, weight = total + one, weight + heavy
    trained = list(twin.trained().values())
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(total / weight, trained)])
    assert abs(loss - total.item() / weight) <= within * abs(loss), (loss, total.item() / weight)
    assert differs(wanted, vector.double()) <= within, differs(wanted, vector.double())


def loss_of(method: Objective, like: Objective | None = None) -> tuple[Tensor, float]:
    """Gradient and loss of a step on random rows (those of another objective, `like`): to compare special cases."""
    policy, attached = _tuned(method)
    return gradient(policy, attached, method, _ways(like or method)["1 x all"])


def _seen(double: Any, table: Table, batches: list[Batch], teaches: bool) -> list[Seen]:
    """Every sequence alone; `batches` hold what the objective's transform adds to the columns per token."""
    found = []
    at = {int(index): (batch, number) for batch in batches for number, index in enumerate(batch.indices)}
    for index in range(len(table)):
        one = collate(table, [index])
        out = double.model(input_ids=one.ids, use_cache=False, output_hidden_states=True)
        with double.reference() as reference:
            other = reference.model(input_ids=one.ids, use_cache=False).logits[0]
        teacher = None
        if teaches:
            with torch.no_grad():
                teacher = double.other("teacher").model(input_ids=one.ids, use_cache=False).logits[0]
        batch, number = at[index]
        inside = batch.sequence == number
        columns: dict[str, Any] = {name: column[index].item() for name, column in table.columns.items()}
        columns |= {name: column[inside] for name, column in batch.token_columns.items()}
        found.append(
            Seen(out.logits[0], other, teacher, one.ids[0], one.weights[0].double(), out.hidden_states[-1][0],
                 double.head, columns)
        )  # fmt: skip
    return found


def _ways(method: Objective) -> dict[str, list[Batch]]:
    return layouts(table_for(method))


def _tuned(method: Objective, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    policy = tiny_policy(tiny())
    attached = attach(usual_parts()["adapter"], policy)  # type: ignore[arg-type]
    disturb(attached)
    policy.to(dtype)
    for other in supply(policy, {"teacher"} & method.needs):
        other.to(dtype)
    return policy, attached
