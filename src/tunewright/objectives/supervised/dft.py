"""Dynamic fine-tuning."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Paper
from tunewright.data.batches import Batch
from tunewright.models.policy import Policy
from tunewright.objectives.base import Loss, Objective, token_loss
from tunewright.objectives.supervised._weighted import weighted_by_itself


class DFT(Objective):
    """Weights the likelihood of each token by the probability that the model gives it already.

    loss = sum_i w_i sg(p_i) (-log p_i) / sum_i w_i, p_i = p(x_i | x_<i), sg without gradient; the gradient with respect
    to the logits is p_i (softmax - onehot), that of -p_i: tokens the model thinks impossible hardly move it.

    When to use: a model that knows the skill in part, and answers of which some are odd. When not: a skill or format
    that is new to it, whose tokens have almost no weight; and where it must not drift (`asft`).
    """

    name: ClassVar[str] = "dft"
    form: ClassVar[frozenset[str]] = frozenset({"token_mean"})
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="On the Generalization of SFT: A Reinforcement Learning Perspective with Reward Rectification",
            arxiv="2508.05629",
        ),
        Paper(title="Anchored Supervised Fine-Tuning", arxiv="2509.23753", card=272),
    )

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        return token_loss(policy(batch, weighted_by_itself), batch)
