"""Tuning seeds and test seeds apart (card 34)."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings

Floats = NDArray[np.float64]

LEVERS, STEPS, TESTS = 10, 150, 50
CONFIGURATIONS = 24


class TuningSeeds(Claim):
    """The score on tuning seeds overstates that on unseen ones, and the less, the more seeds tuning had.

    Policy gradient with a running baseline on a bandit of ten levers (values and rewards from N(0, 1)), 150 pulls. The
    score of a configuration (learning rate, decay of the baseline, entropy bonus) on a seed is the expected reward of
    its policy, averaged over the last 15 pulls. 24 configurations are drawn at random, or taken from a 4 x 2 x 3 grid;
    the best on the tuning seeds is scored again on 50 others. The first run, of 20 repetitions, left it undecided.
    """

    name: ClassVar[str] = "tuning_seeds"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Hyperparameters in Reinforcement Learning and How To Tune Them", arxiv="2306.01324", card=34),
    )
    sentence: ClassVar[str] = (
        "Choosing among equally many configurations by one tuning seed overstates the result on unseen seeds more than "
        "choosing by five, and random search matches or beats a coarse grid of the same budget."
    )
    arms: ClassVar = {"one": "best of 24 by 1 tuning seed", "five": "best of 24 by 5", "grid": "best of a grid by 5"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("tune-minus-test gap by 1 seed minus that by 5", "above", 0.05, "reward"),
        Criterion("test score of random search minus that of the grid", "above", -0.05, "reward"),
    )
    seeds: ClassVar[int] = 400
    budget: ClassVar[str] = "24 configurations of 150 pulls per tuning seed, 400 repetitions"

    def findings(self, bench: Bench) -> Findings:
        """Both gaps and both test scores in every repetition."""
        gaps, scores = [], []
        for repetition in range(self.seeds):
            rng = np.random.default_rng([34, repetition])
            drawn = _configurations(rng.random((CONFIGURATIONS, 3)))
            start = 1_000_000 * (repetition + 1)
            one = _chosen(drawn, range(start, start + 1), range(start + 100, start + 100 + TESTS))
            five = _chosen(drawn, range(start, start + 5), range(start + 100, start + 100 + TESTS))
            grid = _chosen(_grid(), range(start, start + 5), range(start + 100, start + 100 + TESTS))
            gaps.append((one[0] - one[1], five[0] - five[1]))
            scores.append((five[1], grid[1]))
        for arm, tuned in (("one", 1), ("five", 5), ("grid", 5)):
            runs = self.seeds * (CONFIGURATIONS * tuned + TESTS)
            bench.note(arm, runs * STEPS, runs * STEPS)
        (by_one, by_five), (random, grid_) = np.transpose(gaps), np.transpose(scores)
        values = {
            self.criteria[0].quantity: (by_one - by_five).tolist(),
            self.criteria[1].quantity: (random - grid_).tolist(),
        }
        means = {"gap by one": by_one, "gap by five": by_five, "random": random, "grid": grid_}
        return Findings(values, {name: float(each.mean()) for name, each in means.items()})


def _configurations(unit: Floats) -> Floats:
    """Learning rate 0.01 to 3, decay of the baseline 0 to 0.99, entropy bonus 1e-4 to 1, from numbers in [0, 1]."""
    return np.stack([10 ** (-2 + 2.5 * unit[:, 0]), 0.99 * unit[:, 1], 10 ** (-4 + 4 * unit[:, 2])], axis=1)


def _grid() -> Floats:
    return _configurations(np.array(list(product((0.125, 0.375, 0.625, 0.875), (0.25, 0.75), (1 / 6, 0.5, 5 / 6)))))


def _chosen(configurations: Floats, tuning: range, testing: range) -> tuple[float, float]:
    """Score on the tuning seeds and on the test seeds of the configuration that is best on the former."""
    if set(tuning) & set(testing):
        raise ValueError("tuning seeds and test seeds overlap")
    tuned = _scores(configurations, tuning).mean(1)
    best = int(tuned.argmax())
    return float(tuned[best]), float(_scores(configurations[best : best + 1], testing).mean())


def _scores(configurations: Floats, seeds: range) -> Floats:
    """The score of every configuration on every seed [configurations, seeds]; a seed fixes bandit and luck."""
    rngs = [np.random.default_rng([7, seed]) for seed in seeds]
    worth = np.stack([rng.standard_normal(LEVERS) for rng in rngs])
    luck = np.stack([rng.random(STEPS) for rng in rngs])
    noise = np.stack([rng.standard_normal(STEPS) for rng in rngs])
    rate, decay, bonus = (configurations[:, k, None] for k in range(3))
    n, s = len(configurations), len(seeds)
    logits, baseline, last = np.zeros((n, s, LEVERS)), np.zeros((n, s)), np.zeros((n, s))
    for step in range(STEPS):
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        pulled = np.minimum((p.cumsum(-1) < luck[None, :, step, None]).sum(-1), LEVERS - 1)
        reward = worth[np.arange(s), pulled] + noise[None, :, step]
        hot = np.eye(LEVERS)[pulled]
        surprise = np.log(np.maximum(p, 1e-12))
        entropy = -p * (surprise - (p * surprise).sum(-1, keepdims=True))
        logits = logits + rate[..., None] * ((reward - baseline)[..., None] * (hot - p) + bonus[..., None] * entropy)
        baseline = decay * baseline + (1 - decay) * reward
        if step >= STEPS - 15:
            last += (p * worth).sum(-1) / 15
    return last
