"""Preferences that go in circles (card 236)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.objectives.preference._pairs import Side
from tunewright.objectives.preference.dpo import DPO
from tunewright.objectives.preference.inpo import INPO

ROUNDS, STEPS, ETA, TAU = 100, 60, 2.0, 0.05


class CyclicPreferences(Claim):
    """Rounds of INPO come to rest where preferences go in circles; rounds of DPO do not.

    Ten games of three answers, each beating the next with a chance drawn from 60 to 95%, and a reference drawn at
    random. A round minimises the objective's own loss over all pairs drawn from the policy at its start and labelled by
    the game (logits of three answers, L-BFGS), 100 rounds. INPO has eta 2 and tau 0.05; DPO has beta 2 and the round's
    start as its reference. The gap of a policy is how much the best answer to it gains, both sides held to the
    reference by tau. The paper's models and judge are not tested here.
    """

    name: ClassVar[str] = "cyclic_preferences"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret Learning",
            arxiv="2407.00617",
            card=236,
        ),
    )
    sentence: ClassVar[str] = (
        "Over 100 rounds the duality gap of INPO's last policy falls tenfold, while that of iterated DPO falls by less "
        "than half."
    )
    arms: ClassVar = {
        "inpo": "INPO, anchored on the reference and on the round's start",
        "dpo": "DPO from the round's start",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("log10 of INPO's gap, last over first", "below", -1.0, "decades"),
        Criterion("log10 of DPO's gap, last over first", "above", -0.3, "decades"),
    )
    seeds: ClassVar[int] = 10
    budget: ClassVar[str] = "100 rounds per game and arm, exact expectations"

    def findings(self, bench: Bench) -> Findings:
        """The fall of the gap in every game."""
        falls, shown = [], []
        for seed in range(self.seeds):
            game, reference = _game(seed)
            gaps = {arm: _course(arm, game, reference) for arm in self.arms}
            falls.append([math.log10(max(each[-1], 1e-12) / each[0]) for each in gaps.values()])
            shown.append({arm: [each[0], each[-1]] for arm, each in gaps.items()})
        for arm in self.arms:
            bench.note(arm, self.seeds * ROUNDS * STEPS, 0)
        values = {c.quantity: [row[k] for row in falls] for k, c in enumerate(self.criteria)}
        return Findings(values, {"gaps first and last": shown})


def _game(seed: int) -> tuple[Tensor, Tensor]:
    """Chances [3, 3] that the row's answer beats the column's, and the reference policy [3]."""
    rng = torch.Generator().manual_seed(seed)
    strength = 0.60 + 0.35 * torch.rand(3, generator=rng, dtype=torch.float64)
    game = torch.full((3, 3), 0.5, dtype=torch.float64)
    for one in range(3):
        other = (one + 1) % 3
        game[one, other], game[other, one] = strength[one], 1 - strength[one]
    return game, torch.softmax(torch.randn(3, generator=rng, dtype=torch.float64), -1)


def _course(arm: str, game: Tensor, reference: Tensor) -> list[float]:
    """The gap of the policy before every round and after the last."""
    policy, gaps = reference.clone(), [_gap(reference, game, reference)]
    for _ in range(ROUNDS):
        policy = _round(arm, policy, game, reference)
        gaps.append(_gap(policy, game, reference))
    return gaps


def _round(arm: str, start: Tensor, game: Tensor, reference: Tensor) -> Tensor:
    """The policy that minimises the objective over pairs of answers of `start`."""
    method = INPO(eta=ETA, tau=TAU) if arm == "inpo" else DPO(beta=ETA)
    anchors = {"reference": (reference if arm == "inpo" else start).log(), "start": start.log()}
    logits = start.log().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=STEPS, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    shares = start[:, None] * start[None, :] * game

    def closure() -> Tensor:
        optimizer.zero_grad()
        side = Side(torch.log_softmax(logits, -1), torch.ones(3, dtype=torch.float64), anchors, {})
        reward = method.reward(side)
        loss = (shares * method.pair_loss(reward[:, None] - reward[None, :], side)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.softmax(logits.detach(), -1).clamp(min=1e-12)


def _gap(policy: Tensor, game: Tensor, reference: Tensor) -> float:
    """max_a J(a, policy) - min_b J(policy, b), J(a, b) = a.P b - tau KL(a || reference) + tau KL(b || reference)."""
    kept = TAU * float((policy * (policy / reference).log()).sum())
    best = TAU * torch.logsumexp((game @ policy) / TAU + reference.log(), -1) + kept
    worst = -TAU * torch.logsumexp(-(policy @ game) / TAU + reference.log(), -1) - kept
    return float(best - worst)
