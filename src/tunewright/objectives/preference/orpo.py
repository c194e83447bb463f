"""Odds ratio preference optimisation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tunewright.catalog import Paper, option
from tunewright.objectives.preference._pairs import Pairs, Side


class ORPO(Pairs):
    """Learns the better answer and, in the same step, raises its odds over the worse one, without a reference model.

    m(y) = log p(y|x) / |y|; log odds(y) = m - log(1 - e^m);
    loss = mean over pairs of -m(better) - lambda * log sigmoid(log odds(better) - log odds(worse)).

    When to use: one stage instead of supervised tuning followed by a preference objective. When not: a model that is
    already tuned and should only shift. The likelihood term covers the weighted tokens of the better answer, a mean
    per pair; some implementations take it over prompt and answer.
    """

    name: ClassVar[str] = "orpo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="ORPO: Monolithic Preference Optimization without Reference Model", arxiv="2403.07691"),
    )
    anchors: ClassVar[tuple[str, ...]] = ()

    weight: float = option(0.1, "Weight lambda of the odds ratio.", changes="loss", to=1.0, ge=0)

    def reward(self, side: Side) -> Tensor:
        # log(1 - e^m) loses its digits near m = 0 in either form alone.
        least = -torch.finfo(side.mean.dtype).tiny
        mean = side.mean.clamp(max=least)
        near = mean > -0.693
        inner = torch.log(-torch.expm1(torch.where(near, mean, -1.0)))
        outer = torch.log1p(-torch.exp(torch.where(near, -1.0, mean)))
        return mean - torch.where(near, inner, outer)

    def pair_loss(self, margin: Tensor, better: Side) -> Tensor:
        return -better.mean - self.weight * F.logsigmoid(margin)
