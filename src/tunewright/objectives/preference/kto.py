"""Kahneman-Tversky optimisation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tunewright.catalog import Need, Paper, option
from tunewright.data.answers import LABEL, MISMATCHED
from tunewright.data.batches import Batch
from tunewright.models.policy import Policy
from tunewright.objectives.base import Loss, Objective, per_sequence, sequence_loss


class KTO(Objective):
    """Learns from single answers judged good or bad, each against a baseline of how far the policy has drifted.

    g(x, y) = log p(y|x) - log p_ref(y|x), summed over the answer's weighted tokens; z = max(0, mean of g(x, y') over
    prompts x with the answer y' of another row), an estimate of KL(p || p_ref) without gradient;
    loss = mean over judged answers of l_good (1 - sigmoid(beta (g - z))) or l_bad (1 - sigmoid(beta (z - g))).

    Every judged answer is accompanied by its prompt with the answer of the row before it. The baseline is the mean
    over the whole optimizer step, of which it depends how often it is cut off at 0: steps of at least some ten answers
    are meant.

    When to use: thumbs up and down, more of one than of the other. When not: pairs of answers to one prompt (`dpo`),
    which say more.
    """

    name: ClassVar[str] = "kto"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="KTO: Model Alignment as Prospect Theoretic Optimization", arxiv="2402.01306"),
    )
    surveys: ClassVar[int] = 2

    beta: float = option(0.1, "How fast a gain saturates.", changes="loss", to=0.5, gt=0)
    desirable: float = option(1.0, "Weight of answers judged good.", changes="loss", to=2.0, ge=0)
    undesirable: float = option(1.0, "Weight of answers judged bad.", changes="loss", to=2.0, ge=0)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"reference", "labels", "mismatched"})

    def survey(self, policy: Policy, batch: Batch) -> Tensor:
        """Sum and number of the gains of mismatched answers."""
        gains, taken = _gains(policy, batch.only(batch.columns[MISMATCHED] == 1))
        return torch.stack([(gains * taken).sum(), taken.sum()])

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        gain, number = self.step_sums(policy, batch)
        drift = (gain / number.clamp(min=1)).clamp(min=0)
        judged = batch.columns[MISMATCHED] == 0
        gains, taken = _gains(policy, batch.only(judged))
        good = batch.columns[LABEL][judged] == 1
        signed = self.beta * torch.where(good, gains - drift, drift - gains)
        values = torch.where(good, self.desirable, self.undesirable) * (1 - torch.sigmoid(signed))
        spread = lambda found: found.new_zeros(len(judged)).masked_scatter(judged, found)
        return sequence_loss(
            spread(values), spread(taken), {"drift": drift.expand(len(judged)), "gain": spread(gains.detach())}
        )


def _gains(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """log p - log p_ref [sequences], and 1 where a sequence has tokens with weight."""
    weights = batch.weights[batch.kept]
    own = policy.logprobs(batch)
    with policy.reference() as reference:
        other = reference.logprobs(batch)
    taken = per_sequence(torch.ones_like(weights), batch) > 0
    return per_sequence(weights * (own - other), batch), taken.float()
