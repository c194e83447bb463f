"""Bayesian optimisation against random search (card 246)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from tunewright.catalog import Paper
from tunewright.claims._many import language
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.search.proposals import Proposals, Sampler
from tunewright.search.space import Range

Point = Mapping[str, float]

TRIALS, STEPS = 30, 150


class BayesOpt(Claim):
    """A Gaussian process with expected improvement finds better settings than random search in equally many trials.

    Two functions with known optimum (Branin in 2, Hartmann in 6 dimensions) and the tuning of a small language model
    over a random chain (learning rate, momentum and scale of the first weights; held-out loss after 150 steps of 32
    examples), 30 trials each. The simple regret is the best value found minus the optimum; for the language model,
    whose optimum is unknown, the difference of the best losses is judged. The paper's miniature names a language model
    of transformers; this smaller one leaves time for as many seeds as the functions have.
    """

    name: ClassVar[str] = "bayes_opt"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="A Tutorial on Bayesian Optimization", arxiv="1807.02811", card=246),
    )
    sentence: ClassVar[str] = (
        "After 30 trials the simple regret of Bayesian optimisation is below that of random search, on test functions and "
        "in tuning a small language model."
    )
    arms: ClassVar = {"gp": "Gaussian process, expected improvement", "random": "random search"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("log10 regret on Branin, Gaussian process minus random", "below", -0.1, "decades"),
        Criterion("log10 regret on Hartmann-6, Gaussian process minus random", "below", -0.1, "decades"),
        Criterion("best loss of the language model, Gaussian process minus random", "below", -0.002, "nats"),
    )
    seeds: ClassVar[int] = 10
    budget: ClassVar[str] = "30 trials per search; the language model trains 150 steps of 32 examples in each"

    def findings(self, bench: Bench) -> Findings:
        """Three paired differences for every seed."""
        rows = []
        for seed in range(self.seeds):
            gp, random = ([_best(problem, sampler, seed) for problem in _problems(seed)] for sampler in _SAMPLERS)
            rows.append([*(math.log10(a / b) for a, b in zip(gp[:2], random[:2], strict=True)), gp[2] - random[2]])
        for arm in ("gp", "random"):
            runs = self.seeds * TRIALS * STEPS
            bench.note(arm, runs, runs * 32)
        return Findings({c.quantity: [row[k] for row in rows] for k, c in enumerate(self.criteria)})


class Problem(NamedTuple):
    """Something to minimise: the space, the function, and the least value it can take (0 where unknown)."""

    space: Mapping[str, Range]
    function: Callable[[Point], float]
    optimum: float


_SAMPLERS: tuple[Sampler, ...] = ("gp", "random")


def _best(problem: Problem, sampler: Sampler, seed: int) -> float:
    """The smallest regret found."""
    proposals = Proposals(problem.space, TRIALS, sampler, seed, higher=False)
    values: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna calls the sampler experimental
        while points := proposals.ask():
            found = [problem.function(point) for point in points]
            proposals.tell(found)
            values += found
    return max(min(values) - problem.optimum, 1e-12)


def _problems(seed: int) -> list[Problem]:
    unit = {f"x{k}": Range(0.0, 1.0) for k in range(6)}
    tuned = {"lr": Range(1e-4, 0.3), "momentum": Range(0.0, 0.99), "scale": Range(0.05, 3.0)}
    work = language(0)

    def loss(point: Point) -> float:
        scaled = work._replace(shapes=[(shape, size * point["scale"]) for shape, size in work.shapes])
        one = lambda name: torch.tensor([point[name]]).float()
        return min(10.0, float(scaled.course(["adamw"], one("lr"), one("momentum"), [seed], STEPS, STEPS)[0, -1]))

    return [
        Problem({"x0": Range(-5.0, 10.0), "x1": Range(0.0, 15.0)}, branin, 0.397887357729739),
        Problem(unit, hartmann, -3.322368011415515),
        Problem(tuned, loss, 0.0),
    ]


def branin(point: Point) -> float:
    """(x1 - 5.1 x0^2 / (4 pi^2) + 5 x0 / pi - 6)^2 + 10 (1 - 1 / (8 pi)) cos x0 + 10; least 0.397887."""
    x, y = point["x0"], point["x1"]
    bow = y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6
    return bow**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann(point: Point) -> float:
    """-Sum_i a_i exp(-Sum_j A_ij (x_j - P_ij)^2) in six dimensions; least -3.32237."""
    x = np.array([point[f"x{k}"] for k in range(6)])
    return float(-(_HEIGHTS * np.exp(-(_WIDTHS * (x - _PLACES) ** 2).sum(1))).sum())


_HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_WIDTHS = np.array([
    [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
])  # fmt: skip
_PLACES = 1e-4 * np.array([
    [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991], [2348, 1451, 3522, 2883, 3047, 6650],
    [4047, 8828, 8732, 5743, 1091, 381],
])  # fmt: skip
