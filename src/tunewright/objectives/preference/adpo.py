"""Anchored direct preference optimisation."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tunewright.catalog import Need, Paper, option
from tunewright.data.answers import NUMBER, REWARD
from tunewright.data.batches import Batch
from tunewright.data.table import Table
from tunewright.errors import BadInput
from tunewright.models.policy import Policy
from tunewright.objectives.base import Loss, Objective, per_sequence, sequence_loss

EQUAL = 1e-6
"""Rewards of a group with a smaller standard deviation are equal."""


class ADPO(Objective):
    """Fits a distribution over the answers of a prompt by a softmax over log-ratios to an anchor.

    u(y) = (log p(y|x) - log p_anchor(y|x)) / tau; p = softmax of u over the prompt's P answers; with a target q over them
    loss = mean over prompts of KL(q || p) = sum_y q(y) (log q(y) - log p(y)), 0 log 0 = 0; gradient by u: p - q.
    A constant added to all u of a prompt changes nothing. The anchor is the reference, or none (u = log p / tau). With
    rewards R of the answers, those of a pair 1 and 0, the target q is
    `advantage` softmax(A / beta_reward), A = (R - mean) / std over the group (std with P - 1; 0 where it is below 1e-6);
    `reward`    softmax(R / beta_reward); for two answers the probability of a pair, sigmoid((R_1 - R_2) / beta_reward);
    `winner`    `preference` on the highest reward, the rest even over the others: for pairs `dpo` with soft labels, less
                their entropy, and at preference 1 `dpo` with beta = 1/tau;
    `ranks`     softmax(logit(clip(F, 0.01, 0.99)) / beta_reward), F_i = mean_j Phi((R_i - R_j) / h) with the width
                h = 0.9 min(std, IQR / 1.34) P^(-1/5) of a kernel (std alone where IQR is 0): far outliers count as ranks.
    `order` is the Plackett-Luce likelihood instead: loss = -sum_i log(exp u_i / sum_{j: R_j <= R_i} exp u_j).
    Equal rewards give a uniform q.

    When to use: several answers per prompt with rewards, or noisy preferences. When not: certain pairs (`dpo`). An
    anchor that moves with the policy and answers sampled while training are not offered here.
    """

    name: ClassVar[str] = "adpo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="ADPO: Anchored Direct Preference Optimization", arxiv="2510.18913", card=280),
    )

    tau: float = option(0.8, "Temperature of the softmax over log-ratios.", changes="loss", to=2.0, gt=0)
    target: Literal["advantage", "reward", "winner", "ranks", "order"] = option(
        "advantage", "What the softmax is fitted to.", changes="loss", to="ranks"
    )
    beta_reward: float = option(0.5, "Temperature of a target made of rewards.", changes="loss", to=2.0, gt=0)
    preference: float | None = option(
        1.0, "Chance that the winner is best; null reads it from the rows' column `preference`.", changes="loss", to=0.8,
        given={"objective.target": "winner"}, ge=0, le=1,
    )  # fmt: skip
    anchor: Literal["reference", "none"] = option(
        "reference", "What log-probabilities are measured against.", changes="loss", to="none"
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"groups", "reference"} if self.anchor == "reference" else {"groups"})

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({"preference"} if self.target == "winner" and self.preference is None else ())

    def arrange(self, table: Table, seed: int) -> Table:
        """The same rows; raises `BadInput` for a preference that is no chance."""
        if self.columns:
            chances = np.asarray(table.columns["preference"])
            for row in np.flatnonzero((chances < 0) | (chances > 1)):
                raise BadInput(
                    "not a chance", file=table.where(int(row)), field="preference", found=float(chances[row]),
                    expected="a number from 0 to 1",
                )  # fmt: skip
        return table

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        weights = batch.weights[batch.kept]
        gain = per_sequence(weights * policy.logprobs(batch), batch)
        if self.anchor == "reference":
            with policy.reference() as reference:
                anchor = per_sequence(weights * reference.logprobs(batch), batch)
            gain = gain - anchor
        first = (batch.columns[NUMBER] == 0).nonzero()[:, 0]
        size = len(gain) // len(first)
        # A group takes part where all of its answers have tokens with weight.
        taken = (per_sequence(torch.ones_like(weights), batch) > 0).reshape(-1, size).all(1)
        scores = (gain / self.tau).reshape(-1, size)[taken]
        rewards = batch.columns[REWARD].to(scores.dtype).reshape(-1, size)[taken]
        if self.target == "order":
            values = ordered(scores, rewards)
        else:
            chance = batch.columns["preference"][first][taken] if self.columns else None
            values = listwise(scores, self.wanted(rewards, chance))
        spread = lambda found: gain.new_zeros(len(gain)).index_add(0, first[taken], found.to(gain.dtype))
        top = rewards.gather(1, scores.detach().argmax(1, keepdim=True))[:, 0] == rewards.max(1).values
        return sequence_loss(spread(values), spread(taken[taken]), {"preference_accuracy": spread(top)})

    def wanted(self, rewards: Tensor, chance: Tensor | None = None) -> Tensor:
        """The target q [groups, answers]; `chance` [groups] stands for a `preference` that the rows bring."""
        count = rewards.shape[1]
        if self.target == "winner":
            best = rewards == rewards.max(1, keepdim=True).values
            wins = best.sum(1, keepdim=True)
            sure = torch.full_like(rewards[:, :1], self.preference or 0.0) if chance is None else chance[:, None]
            shares = torch.where(best, sure / wins, (1 - sure) / (count - wins).clamp(min=1))
            return torch.where(wins == count, torch.full_like(shares, 1 / count), shares)
        std = rewards.std(1, keepdim=True)
        if self.target == "reward":
            level = rewards
        elif self.target == "advantage":
            level = (rewards - rewards.mean(1, keepdim=True)) / std.clamp(min=EQUAL)
        else:
            level = torch.logit(_smooth_ranks(rewards, std), eps=0.01)
        return torch.softmax(torch.where(std < EQUAL, 0.0, level / self.beta_reward), -1)


def _smooth_ranks(rewards: Tensor, std: Tensor) -> Tensor:
    """F_i = mean_j Phi((R_i - R_j) / h) [groups, answers], with Silverman's width h."""
    middle = torch.quantile(rewards, 0.75, dim=1) - torch.quantile(rewards, 0.25, dim=1)
    spread = torch.where(middle > 0, torch.minimum(std[:, 0], middle / 1.34), std[:, 0])
    width = 0.9 * spread.clamp(min=EQUAL) * rewards.shape[1] ** -0.2
    return torch.special.ndtr((rewards[:, :, None] - rewards[:, None, :]) / width[:, None, None]).mean(2)


def listwise(scores: Tensor, target: Tensor) -> Tensor:
    """KL(target || softmax(scores)) [groups] of groups of answers; both [groups, answers]."""
    return (torch.special.xlogy(target, target) - target * torch.log_softmax(scores, -1)).sum(-1)


def ordered(scores: Tensor, rewards: Tensor) -> Tensor:
    """-log of the Plackett-Luce likelihood [groups] of the order of rewards; equal ones compete with each other."""
    behind = rewards[:, None, :] <= rewards[:, :, None]
    competing = scores[:, None, :].masked_fill(~behind, -torch.inf)
    return (competing.logsumexp(-1) - scores).sum(-1)
