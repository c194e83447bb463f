"""The Objective protocol: what is minimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from tunewright.catalog import Method
from tunewright.data.batches import Batch
from tunewright.data.table import Table
from tunewright.models.policy import Policy


@dataclass(frozen=True)
class Loss:
    """A micro-batch's share of the step's loss.

    `total` is a scalar sum (with graph); `weight` is what it is a sum over. The loop adds both over the whole
    optimizer step and all processes and divides once: loss = sum of totals / sum of weights. `per_sequence` holds
    (total, weight), each float32 [sequences], for reports per source and for methods that weigh rows. `parts` are further sums to log.
    """

    total: Tensor
    weight: Tensor
    per_sequence: tuple[Tensor, Tensor]
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Method):
    """A function of policy and batch."""

    kind: ClassVar[str] = "objective"
    form: ClassVar[frozenset[str]] = frozenset()
    """The traits of the class."""
    surveys: ClassVar[int] = 0
    """How many numbers `survey` gives; 0 for an objective that needs to know nothing of the whole step."""

    @property
    def traits(self) -> frozenset[str]:
        """`token_mean` where the loss is the weighted mean of per-token values (`token_loss` of the whole batch),
        `likelihood` where these are -log p of the row's own tokens."""
        return self.form

    def arrange(self, table: Table, seed: int) -> Table:
        """The training rows to learn from instead of `table`: in another order, or in other units."""
        return table

    def transform(self, batch: Batch, seed: int, step: int, total: int) -> Batch:
        """The micro-batch to learn from instead of `batch` at optimizer step `step` of `total`: a function of its
        arguments alone, sequence by sequence, so that it does not depend on what stands beside them (`data.draws`
        gives such random numbers)."""
        return batch

    def survey(self, policy: Policy, batch: Batch) -> Tensor:
        """Sums float32 [surveys] over a micro-batch that the loss must know of the whole step, without gradient.

        The loop adds them up over the step and all processes before any loss is computed; `step_sums` gives them.
        """
        raise NotImplementedError

    @torch.no_grad()
    def step_sums(self, policy: Policy, batch: Batch) -> Tensor:
        """What `survey` found over the whole step; of the batch alone where it is computed outside a step."""
        return self.survey(policy, batch) if batch.step_sums is None else batch.step_sums

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The batch's loss as a sum and its weight; gradients reach the policy's trained parameters alone."""
        raise NotImplementedError


@torch.no_grad()
def surveyed(
    objective: Objective, policy: Policy, batches: Sequence[Batch], exchange: Callable[[Tensor], Tensor] = lambda s: s
) -> list[Batch]:
    """A step's micro-batches, each knowing the step's sums; `exchange` adds them up over processes."""
    if not objective.surveys:
        return list(batches)
    sums = torch.zeros(objective.surveys, device=policy.device)
    for batch in batches:
        sums += objective.survey(policy, batch)
    sums = exchange(sums)
    return [replace(batch, step_sums=sums) for batch in batches]


def per_sequence(values: Tensor, batch: Batch) -> Tensor:
    """Sums float32 [sequences] of per-token values [kept] over each sequence of a batch."""
    rows, cols = batch.kept
    return values.new_zeros(len(batch.indices)).index_add(0, batch.sequence[rows, cols], values)


def token_loss(values: Tensor, batch: Batch) -> Loss:
    """The weighted sum of per-token values float32 [kept] over a batch.

    total = sum_i w_i v_i, weight = sum_i |w_i|, so that with non-negative weights the loss is the weighted mean.
    """
    weights = batch.weights[batch.kept]
    weighted = values * weights
    return Loss(
        weighted.sum(),
        weights.abs().sum(),
        (per_sequence(weighted, batch), per_sequence(weights.abs(), batch)),
    )


def sequence_loss(values: Tensor, weights: Tensor, parts: Mapping[str, Tensor] | None = None) -> Loss:
    """The sum of values float32 [sequences] over those of weight 1; a sequence of weight 0 takes no part.

    `parts` [sequences] are summed alike.
    """
    counted = values * weights
    return Loss(
        counted.sum(),
        weights.sum(),
        (counted.detach(), weights),
        {name: (part.detach() * weights).sum() for name, part in (parts or {}).items()},
    )
