"""The Objective protocol: what is minimised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from tunewright.catalog import Method
from tunewright.data.batches import Batch
from tunewright.models.policy import Policy


@dataclass(frozen=True)
class Loss:
    """A micro-batch's share of the step's loss.

    `total` is a scalar sum (with graph); `weight` is what it is a sum over. The loop adds both over the whole
    optimizer step and all processes and divides once: loss = sum of totals / sum of weights. `per_sequence` holds
    (total, weight), each float32 [sequences], for reports per source. `parts` are further sums to log.
    """

    total: Tensor
    weight: Tensor
    per_sequence: tuple[Tensor, Tensor]
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Method):
    """A function of policy and batch."""

    kind: ClassVar[str] = "objective"

    def transform(self, batch: Batch, seed: int, step: int) -> Batch:
        """The micro-batch to learn from instead of `batch`: a function of its arguments alone, sequence by sequence,
        so that it does not depend on what stands beside them (`data.draws` gives such random numbers)."""
        return batch

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The batch's loss as a sum and its weight; gradients reach the policy's trained parameters alone."""
        raise NotImplementedError


def token_loss(values: Tensor, batch: Batch) -> Loss:
    """The weighted sum of per-token values float32 [kept] over a batch.

    total = sum_i w_i v_i, weight = sum_i |w_i|, so that with non-negative weights the loss is the weighted mean.
    """
    rows, cols = batch.kept
    weights = batch.weights[rows, cols]
    number = batch.sequence[rows, cols]
    weighted = values * weights
    per = weights.new_zeros(len(batch.indices))
    return Loss(
        weighted.sum(),
        weights.abs().sum(),
        (per.index_add(0, number, weighted.detach()), per.index_add(0, number, weights.abs())),
    )
