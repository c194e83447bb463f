"""Anchored direct preference optimisation, over pairs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.data.table import Table
from tunewright.errors import BadInput
from tunewright.objectives.preference._pairs import Pairs, Side


class ADPO(Pairs):
    """Fits a soft preference between the answers of a prompt by a softmax over log-ratios to an anchor.

    u(y) = (log p(y|x) - log p_ref(y|x)) / tau; p = softmax of u over the prompt's answers; with a target q over them
    loss = mean over prompts of KL(q || p) = sum_y q(y) (log q(y) - log p(y)), 0 log 0 = 0; gradient by u: p - q.
    Here the answers are the two of a pair and q = (s, 1 - s), s the chance that the better one is really better:
    `preference`, or the rows' own column of that name when it is null. s = 1 is `dpo` with beta = 1/tau; a lower s is
    DPO with soft labels, minus their entropy. A constant added to all u of a prompt changes nothing.

    When to use: noisy or graded preferences. When not: certain ones, where it is DPO. Larger groups of answers and
    anchors that move (the method on policy) need sampled answers with rewards: `listwise` is their loss.
    """

    name: ClassVar[str] = "adpo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="ADPO: Anchored Direct Preference Optimization", arxiv="2510.18913", card=280),
    )

    tau: float = option(0.8, "Temperature of the softmax over log-ratios.", changes="loss", to=2.0, gt=0)
    preference: float | None = option(
        1.0,
        "Chance that the better answer is better; null reads it from the rows' column `preference`.",
        changes="loss",
        to=0.8,
        ge=0.5,
        le=1,
    )

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({"preference"} if self.preference is None else ())

    def arrange(self, table: Table, seed: int) -> Table:
        """The same rows; raises `BadInput` for a preference that is no chance."""
        if self.preference is None:
            chances = np.asarray(table.columns["preference"])
            for row in np.flatnonzero((chances < 0) | (chances > 1)):
                raise BadInput(
                    "not a chance",
                    file=table.where(int(row)),
                    field="preference",
                    found=float(chances[row]),
                    expected="a number from 0 to 1",
                )
        return table

    def reward(self, side: Side) -> Tensor:
        return side.gain / self.tau

    def pair_loss(self, margin: Tensor, better: Side) -> Tensor:
        given = better.columns["preference"] if self.preference is None else torch.full_like(margin, self.preference)
        target = given.to(margin.dtype)
        return listwise(torch.stack([margin, torch.zeros_like(margin)], -1), torch.stack([target, 1 - target], -1))


def listwise(scores: Tensor, target: Tensor) -> Tensor:
    """KL(target || softmax(scores)) [groups] of groups of answers; both [groups, answers]."""
    return (torch.special.xlogy(target, target) - target * torch.log_softmax(scores, -1)).sum(-1)
