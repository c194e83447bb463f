"""Supervised fine-tuning."""

from __future__ import annotations

from typing import ClassVar

from tunewright.data.batches import Batch
from tunewright.models.policy import Policy, cross_entropy
from tunewright.objectives.base import Loss, Objective, token_loss


class SFT(Objective):
    """Maximises the likelihood of the weighted tokens.

    loss = sum_i w_i (-log p(x_i | x_<i)) / sum_i w_i over all tokens i of the optimizer step, with the weights w the
    data gives (0 for prompts by default).
    """

    name: ClassVar[str] = "sft"
    form: ClassVar[frozenset[str]] = frozenset({"token_mean", "likelihood"})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        return token_loss(policy(batch, cross_entropy), batch)
