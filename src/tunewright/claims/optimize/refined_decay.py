"""Linear decay and its refinement (card 192)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims._small import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings

STEPS = 250
RATES = (1e-3, 3e-3, 1e-2)
PLAIN = ("linear", "cosine", "constant")


class RefinedDecay(Claim):
    """Linear decay is at least as good as cosine, cosine as a constant rate, and its refinement as linear decay.

    A decoder of 0.2 million parameters trained from nothing for 250 steps with AdamW, no warm-up but the one that the
    refinement finds by itself. Every schedule's rate is chosen from three. The refinement takes the gradient norms of
    the linear run of the tuning seed (L2, which stands in for the paper's L1), and trains at the linear run's rate.
    The paper's logistic regressions under SGD are not repeated here.
    """

    name: ClassVar[str] = "refined_decay"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement",
            arxiv="2310.07831",
            card=192,
        ),
    )
    sentence: ClassVar[str] = (
        "At tuned rates linear decay ends no higher than cosine and cosine lower than a constant rate; the schedule "
        "refined from gradient norms ends no higher than linear decay and begins with a warm-up."
    )
    arms: ClassVar = {
        "refined": "refined from an earlier run's gradient norms",
        **{one: f"{one} rate" for one in PLAIN},
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, linear minus cosine", "below", 0.01, "nats per token"),
        Criterion("loss, cosine minus constant", "below", 0.0, "nats per token"),
        Criterion("loss, refined minus linear", "below", 0.01, "nats per token"),
        Criterion("share of the run before the refined peak", "above", 0.0, "share"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "250 steps of 512 tokens, three rates on one seed, then five seeds"

    def findings(self, bench: Bench) -> Findings:
        """Losses per seed at the chosen rates, and where the refined schedules peak."""
        tried = {(n, r): self._run(bench, n, n, r, TUNING_SEED, "tuning") for n in PLAIN for r in RATES}
        rates = {n: min(RATES, key=lambda rate: tried[n, rate][0]) for n in PLAIN}
        norms = tried["linear", rates["linear"]][1]
        losses, peaks = {name: list[float]() for name in self.arms}, []
        for seed in range(self.seeds):
            for name in PLAIN:
                loss, own = self._run(bench, name, name, rates[name], seed, "test")
                losses[name].append(loss)
                if name == "linear":
                    peaks.append(_peak(own))
            refined = {"method": "refined_schedule", "norms": norms}
            losses["refined"].append(self._run(bench, "refined", refined, rates["linear"], seed, "test")[0])
        apart = lambda one, other: (np.subtract(losses[one], losses[other])).tolist()
        pairs = (("linear", "cosine"), ("cosine", "constant"), ("refined", "linear"))
        values = {c.quantity: apart(*pair) for c, pair in zip(self.criteria, pairs, strict=False)}
        values[self.criteria[3].quantity] = peaks
        return Findings(values, {"means": {n: float(np.mean(v)) for n, v in losses.items()}, "rates": rates})

    def _run(self, bench: Bench, arm: str, schedule: object, rate: float, seed: int, split: str) -> tuple[float, list[float]]:  # fmt: skip
        """The loss of a run and its gradient norms."""
        if isinstance(schedule, str):
            schedule = {"method": schedule, "warmup": 0}
        made = recipe(steps=STEPS, seed=seed, lr=rate, split=split, schedule=schedule)
        trial = bench.trial(arm, made)
        trial.advance()
        return trial.scores()["perplexity"].score, [step.gradient_norm for step in trial.steps]


def _peak(norms: list[float]) -> float:
    from tunewright.optimize.schedules.refined_schedule import RefinedSchedule

    refined = RefinedSchedule(norms=tuple(norms))
    return float(np.argmax([refined.factor(step, len(norms)) for step in range(len(norms))])) / len(norms)
