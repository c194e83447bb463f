"""Simple preference optimisation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from tunewright.catalog import Paper, option
from tunewright.objectives.preference._pairs import Pairs, Side


class SimPO(Pairs):
    """Prefers by the mean log-probability of an answer's tokens, with a margin and without a reference model.

    r(y) = beta * log p(y|x) / |y|; loss = mean over pairs of -log sigmoid(r(better) - r(worse) - gamma).

    When to use: where answers should not grow longer, or the forward pass of a reference is too dear; with a low
    learning rate. When not: where the model must stay close to what it was, since nothing holds it there.
    """

    name: ClassVar[str] = "simpo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="SimPO: Simple Preference Optimization with a Reference-Free Reward", arxiv="2405.14734"),
    )
    anchors: ClassVar[tuple[str, ...]] = ()

    beta: float = option(2.0, "Scale of the reward.", changes="loss", to=1.0, gt=0)
    gamma: float = option(1.0, "Margin by which the better answer should lead.", changes="loss", to=0.0, ge=0)

    def reward(self, side: Side) -> Tensor:
        return self.beta * side.mean

    def pair_loss(self, margin: Tensor, better: Side) -> Tensor:
        return -F.logsigmoid(margin - self.gamma)
