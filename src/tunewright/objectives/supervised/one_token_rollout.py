"""One-token rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.data.batches import Batch
from tunewright.data.draws import uniform
from tunewright.models.policy import Policy
from tunewright.objectives._divergences import Closed
from tunewright.objectives.base import Loss, Objective, token_loss

DRAW = "one_token_rollout"


class OneTokenRollout(Objective):
    """Makes every token a game of one move: candidates drawn from the model, rewarded where they equal the data's.

    At each weighted token i: q = softmax(logits / kappa), `samples` candidates a_j drawn from q with replacement,
    reward R_j = 1 where a_j = x_i and beta elsewhere; l_i = -(1/samples) sum_j R_j log p(a_j | x_<i), p at temperature
    1, R and the draws without gradient; loss = sum_i w_i l_i / sum_i w_i. `exact` puts q in the place of the counts:
    l_i = -q(x_i) log p(x_i) - beta sum_{a != x_i} q(a) log p(a), the same on average and without noise; its gradient by
    the logits is (1 - beta) q(x_i) (p - onehot) + beta (p - q). At kappa = 1 that is (1 - beta) times that of `dft`.

    When to use: as `dft`; the negative reward and kappa > 1 besides sharpen what the model already does. When not: a
    skill that is new to the model, whose tokens are never drawn. The mean is over tokens with weight; the authors'
    takes that of each sequence first.
    """

    name: ClassVar[str] = "one_token_rollout"
    form: ClassVar[frozenset[str]] = frozenset({"token_mean"})
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="One-Token Rollout: Guiding Supervised Fine-Tuning of LLMs with Policy Gradient",
            arxiv="2509.26313",
            card=273,
        ),
    )

    samples: int = option(256, "Candidates drawn at each token.", changes="loss", to=4, ge=1)
    kappa: float = option(1.3, "Temperature of the candidates.", changes="loss", to=2.0, gt=0)
    beta: float = option(-0.1, "Reward of a candidate that is not the data's token.", changes="loss", to=0.2, le=1)
    estimator: Literal["sampled", "exact"] = option(
        "sampled", "Draws, or their expectation.", changes="loss", to="exact"
    )

    def transform(self, batch: Batch, seed: int, step: int, total: int) -> Batch:
        """Adds the number that each token's draws grow from."""
        if self.estimator == "exact":
            return batch
        drawn = (uniform(batch, seed, step) * 2**24).long()
        return replace(batch, token_columns={**batch.token_columns, DRAW: drawn})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        columns = {} if self.estimator == "exact" else {DRAW: batch.token_columns[DRAW][batch.kept]}
        return token_loss(policy(batch, _Rollout(self), columns), batch)


class _Rollout(Closed):
    def __init__(self, method: OneTokenRollout) -> None:
        self.method = method

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        log = torch.log_softmax(logits, -1, dtype=torch.float32)
        shares = torch.softmax(logits.float() / self.method.kappa, -1)
        if self.method.estimator == "sampled":
            shares = counted(shares, columns[DRAW], self.method.samples)
        # rewards times shares: the loss is -sum_a rewarded(a) log p(a)
        gold = shares.gather(-1, targets[:, None])
        rewarded = (self.method.beta * shares).scatter(-1, targets[:, None], gold)
        gradient = log.exp() * rewarded.sum(-1, keepdim=True) - rewarded
        return -(rewarded * log).sum(-1), gradient.to(logits.dtype)


def counted(shares: Tensor, seeds: Tensor, samples: int) -> Tensor:
    """How often each entry comes in `samples` draws from `shares` [n, vocabulary], over `samples`; row i is drawn by
    numbers that depend on `seeds[i]` int64 alone."""
    at = (seeds[:, None] << 20) + torch.arange(samples, device=seeds.device)
    drawn = (_mixed(at) >> 40 & 0xFFFFFF).to(shares.dtype) + 0.5
    reached = shares.cumsum(-1)
    found = torch.searchsorted(reached, drawn / 2**24 * reached[:, -1:]).clamp(max=shares.shape[-1] - 1)
    return torch.zeros_like(shares).scatter_add_(-1, found, torch.full_like(drawn, 1 / samples))


def _mixed(state: Tensor) -> Tensor:
    """The SplitMix64 generator's mixing in signed integers, whose overflow wraps."""
    for factor, shift in ((-0x40A7B892E31B1A47, 30), (-0x6B2FB644ECCEEE15, 27)):
        state = (state ^ (state >> shift & (1 << (64 - shift)) - 1)) * factor
    return state ^ (state >> 31 & (1 << 33) - 1)
