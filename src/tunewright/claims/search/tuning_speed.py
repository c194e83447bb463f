"""Time to a result under equal tuning budgets (card 41)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc

from tunewright.catalog import Paper
from tunewright.claims._many import Rule, Workload, workloads
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.evaluate.statistics import time_score

RULES: tuple[Rule, ...] = ("adamw", "momentum", "sgd")
TRIALS, STEPS, EVERY = 5, 300, 10


class TuningSpeed(Claim):
    """AdamW reaches targets soonest at equal tuning budgets, and needs tuning least.

    Four workloads (ill-conditioned regression, clusters, a convolution, a language model) of 300 steps of 32 examples.
    Target: the median over three seeds of the best held-out loss of the better of AdamW and momentum after 16 points.
    A study draws five points (learning rate 1e-4 to 1, momentum 0.7 to 0.98, both on a logarithmic scale) from a
    scrambled Halton sequence, the same for all three; the time of an entry is that of its fastest point. Six entries
    (five points, or the first one alone) are scored in one table per study.
    """

    name: ClassVar[str] = "tuning_speed"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Benchmarking Neural Network Training Algorithms", arxiv="2306.07179", card=41),
    )
    sentence: ClassVar[str] = (
        "At equal tuning budgets AdamW has the highest time-to-result score over several workloads, and going from five "
        "trials to one costs plain SGD more than AdamW."
    )
    arms: ClassVar = {"adamw": "AdamW", "momentum": "SGD with momentum", "sgd": "plain SGD"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("score of AdamW minus that of the better other", "above", 0.05, "score"),
        Criterion("loss of score from one trial, SGD minus AdamW", "above", 0.05, "score"),
    )
    seeds: ClassVar[int] = 20
    budget: ClassVar[str] = "4 workloads, 20 studies of 5 trials, 300 steps of 32 examples each"

    def findings(self, bench: Bench) -> Findings:
        """The scores of the six entries in every study."""
        times = np.stack([self._times(work, bench) for work in workloads()], axis=-1)
        # [studies, rules, trials, workloads] -> [studies, entries, workloads]: five trials, then the first alone.
        entries = np.concatenate([times.min(2), times[:, :, 0]], axis=1)
        scores = np.stack([time_score(table) for table in entries])
        five, one = scores[:, : len(RULES)], scores[:, len(RULES) :]
        lost = five - one
        values = [five[:, 0] - five[:, 1:].max(1), lost[:, RULES.index("sgd")] - lost[:, 0]]
        shown = {"five trials": five.mean(0).tolist(), "one trial": one.mean(0).tolist(), "entries": list(RULES)}
        return Findings({c.quantity: v.tolist() for c, v in zip(self.criteria, values, strict=True)}, shown)

    def _times(self, work: Workload, bench: Bench) -> NDArray[np.float64]:
        """Steps to the target [studies, rules, trials], infinite where it was not reached."""
        target = _target(work)
        points = np.stack([_points(TRIALS, seed) for seed in range(self.seeds)])
        shape = (self.seeds, len(RULES), TRIALS)
        lr, momentum = (torch.tensor(points[..., k]).float()[:, None].expand(shape).reshape(-1) for k in (0, 1))
        rules: list[Rule] = [rule for _ in range(self.seeds) for rule in RULES for _ in range(TRIALS)]
        seeds = [1000 + study for study in range(self.seeds) for _ in range(len(RULES) * TRIALS)]
        course = work.course(rules, lr, momentum, seeds, STEPS, EVERY)
        for rule in RULES:
            bench.note(rule, self.seeds * TRIALS * STEPS, self.seeds * TRIALS * STEPS * 32)
        reached = course <= target
        first = np.where(reached.any(1), (reached.argmax(1) + 1.0) * EVERY, np.inf)
        return first.reshape(shape)


def _points(count: int, seed: int) -> NDArray[np.float64]:
    """Learning rates and momenta [count, 2]."""
    unit = qmc.Halton(2, seed=seed).random(count)
    return np.stack([10 ** (-4 + 4 * unit[:, 0]), 1 - 0.02 * 15 ** unit[:, 1]], axis=1)


def _target(work: Workload) -> float:
    points = _points(16, 99)
    best = []
    for rule in RULES[:2]:
        lr, momentum = torch.tensor(points).float().unbind(1)
        tried = work.course([rule] * 16, lr, momentum, [500] * 16, STEPS, EVERY).min(1)
        chosen = [int(tried.argmin())] * 3
        again = work.course([rule] * 3, lr[chosen], momentum[chosen], [501, 502, 503], STEPS, EVERY)
        best.append(float(np.median(again.min(1))))
    return min(best)
