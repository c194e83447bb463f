"""Distillation of a teacher's next-token distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from tunewright.catalog import Need, Paper, option
from tunewright.data.batches import Batch
from tunewright.models.policy import Policy, cross_entropy
from tunewright.objectives._divergences import DIVERGENCES, Closed, Direction
from tunewright.objectives.base import Loss, Objective, token_loss


class LogitDistillation(Objective):
    """Moves the model's next-token distribution towards that of a teacher at every weighted token.

    loss = sum_i w_i ((1 - likelihood) T^2 D_i + likelihood (-log p(x_i | x_<i))) / sum_i w_i, D_i = KL(q_T || p_T)
    (`forward`) or KL(p_T || q_T) (`reverse`) of the teacher's q and the model's p at the prefix x_<i, both softmax of
    the logits over T. T^2 keeps the gradient's size as T grows; as T grows it tends to that of half the squared
    distance of the centred logits over the size of the vocabulary.

    When to use: a larger model of the same vocabulary is at hand (`supplies: {teacher: ...}`). When not: teachers with
    another tokenizer, whose answers can be learned as data instead.
    """

    name: ClassVar[str] = "logit_distillation"
    form: ClassVar[frozenset[str]] = frozenset({"token_mean"})
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Distilling the Knowledge in a Neural Network", arxiv="1503.02531"),
        Paper(title="MiniLLM: Knowledge Distillation of Large Language Models", arxiv="2306.08543"),
    )

    temperature: float = option(1.0, "T, by which both models' logits are divided.", changes="loss", to=3.0, gt=0)
    direction: Direction = option(
        "forward", "`forward` KL(teacher || model), or `reverse` KL(model || teacher).", changes="loss", to="reverse"
    )
    likelihood: float = option(0.0, "Share of the plain likelihood of the data.", changes="loss", to=0.5, ge=0, le=1)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"teacher"})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        return token_loss(policy(batch, _Mixed(self), beside=("teacher",)), batch)


class _Mixed(Closed):
    """The value of a token and its gradient: T^2 times that by the logits over T is T times that by the logits."""

    def __init__(self, method: LogitDistillation) -> None:
        self.method, self.divergence = method, DIVERGENCES[method.direction]

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        share, heat = self.method.likelihood, self.method.temperature
        policy, teacher = (torch.log_softmax(x.float() / heat, -1) for x in (logits, columns["teacher"]))
        away, pull = self.divergence(policy, teacher)
        values, gradient = (1 - share) * heat**2 * away, (1 - share) * heat * pull
        if share:
            own, push = cross_entropy.gradient(logits.float(), targets, columns)
            values, gradient = values + share * own, gradient + share * push
        return values, gradient.to(logits.dtype)
