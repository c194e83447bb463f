"""Preference-oriented supervised fine-tuning."""

from __future__ import annotations

from typing import ClassVar

from torch.nn import functional as F

from tunewright.catalog import Paper, option
from tunewright.data.batches import Batch
from tunewright.models.policy import Policy
from tunewright.objectives.base import Loss, Objective, per_sequence, sequence_loss

ALIGNED = "aligned_logprob"


class PoFT(Objective):
    """Asks the model to find each answer likelier than aligned models do, so that answers those doubt weigh less.

    g = sum_i w_i log p(y_i | x, y_<i) / sum_i w_i per row; m = the row's column `aligned_logprob`, the mean over aligned
    models of the mean log-probability of the answer, each under its own template and tokenizer;
    loss = mean over rows of -log sigmoid(beta (g - m) + gamma). The gradient is that of the row's mean likelihood times
    beta sigmoid(beta (m - g) - gamma): near beta where aligned models like the answer more, fading as g overtakes m.

    When to use: data of mixed quality, with aligned models at hand to score it once. When not: clean data, where it
    only slows. The authors' code takes all tokens of a row; here those with weight.
    """

    name: ClassVar[str] = "poft"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Preference-Oriented Supervised Fine-Tuning: Favoring Target Model Over Aligned Large Language "
            "Models",
            arxiv="2412.12865",
            card=298,
        ),
    )

    beta: float = option(1.0, "Steepness of the preference.", changes="loss", to=2.0, gt=0)
    gamma: float = option(0.0, "Lead that the model has from the beginning.", changes="loss", to=0.5)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({ALIGNED})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        weights = batch.weights[batch.kept]
        weight = per_sequence(weights, batch)
        taken = weight > 0
        mean = per_sequence(weights * policy.logprobs(batch), batch) / weight.where(taken, 1.0)
        lead = mean - batch.columns[ALIGNED].to(mean.dtype)
        return sequence_loss(-F.logsigmoid(self.beta * lead + self.gamma), taken.to(mean.dtype))
