"""Mixup between confident and unconfident rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.data.batches import Batch
from tunewright.data.draws import uniform
from tunewright.data.table import Table
from tunewright.models.policy import Policy, cross_entropy
from tunewright.objectives._divergences import Closed
from tunewright.objectives.base import Loss, Objective, per_sequence, token_loss

SHARE = "sftmix_share"


class SFTMix(Objective):
    """Adds to the likelihood that of mixtures of a confident and an unconfident row, mixed in their hidden states.

    Rows are ranked by their column `confidence`, the mean over checkpoints of an earlier run of -perplexity of the
    answer; the upper half (with the extra row of an odd count) are confident, the others not, and each of one half is
    paired at random with one of the other. For a pair with hidden states Z, Z' [n, hidden] at its first n = min(|y|,
    |y'|) tokens with weight, and s ~ Beta(a, a) drawn anew at each step: z = s Z + (1 - s) Z',
    mix = mean over n of s CE(z, y) + (1 - s) CE(z, y');
    loss = sum_i w_i (-log p(x_i | x_<i)) / sum_i w_i + mu mean over pairs of mix. mu 0 is `sft` on the same batches.

    Who is paired with whom stays so for the run; the authors pair anew in each batch. A row without partner gets the
    likelihood alone. Rows of a pair are drawn together, as the confident one's source says.

    When to use: instruction data of mixed difficulty or quality. When not: models whose logits are more than a linear
    head (refused), or where no earlier run gives confidences.
    """

    name: ClassVar[str] = "sftmix"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="SFTMix: Elevating Language Model Instruction Tuning with Mixup Recipe", arxiv="2410.05248", card=75
        ),
    )
    surveys: ClassVar[int] = 2

    mu: float = option(0.2, "Weight of the mixtures' loss.", changes="loss", to=1.0, ge=0)
    beta_alpha: float = option(0.5, "a of Beta(a, a), from which shares are drawn.", changes="loss", to=4.0, gt=0)
    split: Literal["confidence", "random"] = option(
        "confidence", "How rows are halved; `random` is the control without confidences.", changes="loss", to="random"
    )

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({"confidence"} if self.split == "confidence" else ())

    def arrange(self, table: Table, seed: int) -> Table:
        """The rows as pairs (confident, unconfident); the last of an odd count stands beside itself without weight."""
        count, rng = len(table), np.random.default_rng([seed, 0x51F7])
        if self.split == "confidence":
            ranked = np.argsort(-np.asarray(table.columns["confidence"], dtype=np.float64), kind="stable")
        else:
            ranked = rng.permutation(count)
        halves = [rng.permutation(half) for half in np.split(ranked, [(count + 1) // 2])]
        extra = halves[0][len(halves[1]) :]
        paired = table.taken(np.stack([halves[0], np.concatenate([halves[1], extra])], 1).ravel())
        if len(extra):
            paired.weights[paired.starts[-2] :] = 0.0
        return replace(paired, together=2)

    def transform(self, batch: Batch, seed: int, step: int, total: int) -> Batch:
        """Draws the share s of the confident row of each pair, the same for both."""
        first = (batch.positions == 0) & (batch.sequence >= 0)
        drawn = torch.full((len(batch.indices),), 0.5, device=batch.ids.device)
        drawn[batch.sequence[first]] = uniform(batch, seed, step)[first]
        even = drawn[::2].double().cpu().numpy()
        share = torch.from_numpy(betaincinv(self.beta_alpha, self.beta_alpha, even)).to(drawn)
        return replace(batch, columns={**batch.columns, SHARE: share.repeat_interleave(2)})

    def survey(self, policy: Policy, batch: Batch) -> Tensor:
        """The step's weight, and how many pairs have a mixture."""
        return torch.stack([batch.weights.abs().sum(), (_common(batch) > 0).sum().float()])

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        rows, cols = batch.kept
        targets, number = batch.ids[rows, cols], batch.sequence[rows, cols]
        hidden = policy.hidden(batch)[rows, cols - 1]
        plain = token_loss(policy.at_head(hidden, targets, {}, cross_entropy), batch)
        common = _common(batch)
        within = torch.arange(len(number), device=number.device) - torch.searchsorted(number, number)
        inside = within < common[number // 2]
        ours, theirs = inside & (number % 2 == 0), inside & (number % 2 == 1)
        share = batch.columns[SHARE][number[ours]]
        mixed = share[:, None] * hidden[ours] + (1 - share)[:, None] * hidden[theirs]
        values = policy.at_head(
            mixed.to(hidden.dtype), targets[ours], {"other": targets[theirs], "share": share}, _between
        )
        weight, pairs = self.step_sums(policy, batch)
        means = values / common[number[ours] // 2]
        each = means.new_zeros(len(batch.indices)).index_add(0, number[ours], means)
        scaled = self.mu * weight / pairs.clamp(min=1) * each
        total, own = plain.per_sequence
        return Loss(plain.total + scaled.sum(), plain.weight, (total + scaled.detach(), own))


def _common(batch: Batch) -> Tensor:
    """min(|y|, |y'|) int64 [pairs], counting tokens with weight."""
    counts = per_sequence(torch.ones_like(batch.weights[batch.kept]), batch).long()
    return counts.view(-1, 2).min(1).values


class _Between(Closed):
    """share CE(target) + (1 - share) CE(other), with gradient softmax - share onehot - (1 - share) onehot'."""

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        log = torch.log_softmax(logits, -1, dtype=torch.float32)
        both = torch.stack([targets, columns["other"]], -1)
        shares = torch.stack([columns["share"], 1 - columns["share"]], -1).float()
        values = -(shares * log.gather(-1, both)).sum(-1)
        return values, log.exp_().scatter_add_(-1, both, -shares).to(logits.dtype)


_between = _Between()
