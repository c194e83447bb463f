"""Iterative Nash policy optimisation."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.objectives.preference._pairs import Pairs, Side


class INPO(Pairs):
    """One round towards the policy that no other is preferred to, anchored on the reference and on the round's start.

    h = d(log p) - (tau/eta) d(log p_ref) - ((eta - tau)/eta) d(log p_start), d(f) = f(better) - f(worse) summed over
    the answers' weighted tokens; loss = mean over pairs of (h - 1/(2 eta))^2. The minimum over all pairs that the start
    answers and the judge labels is p proportional to p_ref^(tau/eta) p_start^(1 - tau/eta) exp(P/eta), P(y) the chance
    that y is preferred to an answer of the start.

    A round is a run: its pairs are the best and worst of answers of the model it starts from (8 per prompt in the
    paper, 3 rounds with new prompts), and `supplies: {reference: ...}` names the model before the first round; in that
    round itself the two are one and tau has no effect. tau = eta is `ipo` on sums with beta = eta.

    When to use: preferences that go in circles, which no reward can order. When not: one round of fixed pairs (`ipo`).
    The default 1/(2 eta) asks for a margin of 67 nats, right for long answers; take eta near 0.1 for short ones.
    """

    name: ClassVar[str] = "inpo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret Learning",
            arxiv="2407.00617",
            card=236,
        ),
    )
    anchors: ClassVar[tuple[str, ...]] = ("reference", "start")

    eta: float = option(0.0075, "Inverse step size; the target margin is 1/(2 eta).", changes="loss", to=0.02, gt=0)
    tau: float = option(0.0025, "Strength of the hold on the reference, at most eta.", changes="loss", to=0.005, gt=0)

    @model_validator(mode="after")
    def _tau_within_eta(self) -> Any:
        if self.tau > self.eta:
            raise ValueError("tau is at most eta")
        return self

    def reward(self, side: Side) -> Tensor:
        share = self.tau / self.eta
        return side.logp - share * side.anchors["reference"] - (1 - share) * side.anchors["start"]

    def pair_loss(self, margin: Tensor, better: Side) -> Tensor:
        return (margin - 1 / (2 * self.eta)) ** 2
