"""Tuning and scoring continual learners on the same scenario flatters them (card 12)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.evaluate.metrics.continual import kept

Floats = NDArray[np.float64]

METHODS = ("fine_tune", "replay", "ewc", "lwf")
TASKS, PER_TASK, WIDTH, HIDDEN = 5, 2, 12, 32
STEPS, BATCH, MEMORY = 40, 20, 20
TRIALS, SCENARIOS = 8, 5
CLASSES = TASKS * PER_TASK


class TwoPhaseTuning(Claim):
    """The usual protocol overstates continual learners, some more than others.

    Class-incremental learning of five tasks of two Gaussian clusters each (12 dimensions) by a network of one hidden
    layer. Each of four methods (plain training, replay of 20 examples per class, elastic weight consolidation, learning
    without forgetting) has eight random configurations (learning rate 0.01 to 1, strength 0.01 to 100). Phase 1
    chooses on five scenarios of one set of clusters, phase 2 scores that choice on five scenarios of another set; the
    usual protocol takes the best configuration on those scenarios themselves. Scores are mean accuracies over the
    sequence, in points.
    """

    name: ClassVar[str] = "two_phase_tuning"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Hyperparameters in Continual Learning: a Reality Check", arxiv="2403.09066", card=12),
    )
    sentence: ClassVar[str] = (
        "Scored on the scenarios they were tuned on, some continual-learning method is overstated by more than two "
        "points, and the ranking of methods changes."
    )
    arms: ClassVar = {"two phases": "tuned on other clusters", "usual": "tuned and scored on the same scenarios"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("largest overstatement of a method", "above", 2.0, "points"),
        Criterion("pairs of methods that swap ranks", "above", 0.5, "pairs"),
    )
    seeds: ClassVar[int] = 12
    budget: ClassVar[str] = "4 methods x 8 configurations x 10 scenarios of 5 tasks of 40 steps of 20 examples"

    def findings(self, bench: Bench) -> Findings:
        """Largest overstatement and number of swapped pairs in every repetition."""
        largest, swaps, told = [], [], []
        for seed in range(self.seeds):
            usual, honest = np.zeros(len(METHODS)), np.zeros(len(METHODS))
            for place, method in enumerate(METHODS):
                scores = _scores(method, seed)
                tuned, fresh = scores.mean(2)
                honest[place], usual[place] = fresh[tuned.argmax()], fresh.max()
                runs = 2 * TRIALS * SCENARIOS * TASKS * STEPS
                bench.note("two phases", runs, runs * BATCH)
            largest.append(float((usual - honest).max()))
            swaps.append(
                float(sum((usual[i] - usual[j]) * (honest[i] - honest[j]) < 0 for i, j in combinations(range(4), 2)))
            )
            told.append(usual - honest)
        values = {self.criteria[0].quantity: largest, self.criteria[1].quantity: swaps}
        mean = np.mean(told, axis=0)
        return Findings(values, {"overstatement": dict(zip(METHODS, mean.tolist(), strict=True))})


class Data(NamedTuple):
    """Inputs [models, tasks, rows, WIDTH] and classes [models, tasks, rows] to learn from and to be tested on."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def _scores(method: str, seed: int) -> Floats:
    """Points on both sets of clusters for every configuration and scenario [2, TRIALS, SCENARIOS].

    All of them train at once; order, data draw and first weights depend on the scenario alone.
    """
    rng = np.random.default_rng([12, seed, METHODS.index(method)])
    lr, strength = 10 ** rng.uniform(-2, 0, TRIALS), 10 ** rng.uniform(-2, 2, TRIALS)
    per_model = lambda values: torch.tensor(np.tile(np.repeat(values, SCENARIOS), 2)).float()
    data = [
        _scenario(seed, which, scenario) for which in (0, 1) for _ in range(TRIALS) for scenario in range(SCENARIOS)
    ]
    joined = Data(*(torch.stack(part) for part in zip(*data, strict=True)))
    first = [seed * 100 + scenario for _ in range(2 * TRIALS) for scenario in range(SCENARIOS)]
    matrix = _learn(method, joined, per_model(lr), per_model(strength), first)
    return 100 * np.array([kept(one).average for one in matrix]).reshape(2, TRIALS, SCENARIOS)


def _scenario(seed: int, which: int, scenario: int) -> Data:
    world = torch.Generator().manual_seed(10_000 * seed + which)
    centres = 1.3 * torch.randn(CLASSES, WIDTH, generator=world)
    rng = torch.Generator().manual_seed(100 * seed + scenario)
    order = torch.randperm(CLASSES, generator=rng).view(TASKS, PER_TASK)
    draw = lambda rows: order[torch.arange(TASKS)[:, None], torch.randint(PER_TASK, (TASKS, rows), generator=rng)]
    noisy = lambda y: centres[y] + torch.randn(*y.shape, WIDTH, generator=rng)
    y, y_test = draw(100), draw(50)
    return Data(noisy(y), y, noisy(y_test), y_test)


def _learn(method: str, data: Data, lr: Tensor, strength: Tensor, seeds: Sequence[int]) -> Floats:
    """The accuracy matrix of every model [models, TASKS, TASKS]."""
    drawn = [torch.Generator().manual_seed(one) for one in seeds]
    start = lambda *shape: torch.stack([shape[0] ** -0.5 * torch.randn(shape, generator=rng) for rng in drawn])
    weights = [start(WIDTH, HIDDEN).requires_grad_(), start(HIDDEN, CLASSES).requires_grad_()]
    importance, anchors = [torch.zeros_like(w) for w in weights], [w.detach().clone() for w in weights]
    memory: list[tuple[Tensor, Tensor]] = []
    rng = torch.Generator().manual_seed(5)
    matrix = np.zeros((len(seeds), TASKS, TASKS))
    for task in range(TASKS):
        old = [w.detach().clone() for w in weights]
        for _ in range(STEPS):
            rows = torch.randint(data.x.shape[2], (BATCH,), generator=rng)
            x, y = data.x[:, task, rows], data.y[:, task, rows]
            loss = _cross_entropy(_logits(weights, x), y)
            if method == "replay" and memory:
                at = torch.randint(memory[0][0].shape[1] * len(memory), (BATCH,), generator=rng)
                past = [torch.cat([part[k] for part in memory], 1)[:, at] for k in (0, 1)]
                loss = loss + _share(strength) * _cross_entropy(_logits(weights, past[0]), past[1])
            if method == "ewc":
                pairs = zip(weights, anchors, importance, strict=True)
                loss = loss + strength * sum((f * (w - a) ** 2).flatten(1).sum(1) for w, a, f in pairs)
            if method == "lwf" and task:
                before = _logits(old, x).softmax(-1)
                loss = loss - _share(strength) * (before * _logits(weights, x).log_softmax(-1)).sum(-1).mean(1)
            _descend(weights, loss, lr)
        if method == "ewc":
            importance = [f + g for f, g in zip(importance, _importance(weights, data, task), strict=True)]
            anchors = [w.detach().clone() for w in weights]
        memory.append((data.x[:, task, : MEMORY * PER_TASK], data.y[:, task, : MEMORY * PER_TASK]))
        with torch.no_grad():
            for seen in range(TASKS):
                guess = _logits(weights, data.x_test[:, seen]).argmax(-1)
                matrix[:, task, seen] = (guess == data.y_test[:, seen]).double().mean(1).numpy()
    return matrix


def _share(strength: Tensor) -> Tensor:
    """Strengths 0.1 to 10 of a loss on old classes: at 100 nothing new would be learnt."""
    return strength.sqrt()


def _logits(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    return (x @ weights[0]).relu() @ weights[1]


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return -logits.log_softmax(-1).gather(-1, y[..., None])[..., 0].mean(1)


def _descend(weights: Sequence[Tensor], loss: Tensor, lr: Tensor) -> None:
    gradients = torch.autograd.grad(loss, weights, torch.ones_like(loss))
    with torch.no_grad():
        for w, g in zip(weights, gradients, strict=True):
            size = g.flatten(1).norm(dim=1).clamp(min=1.0)[:, None, None]  # one clip for all methods
            w.sub_(lr[:, None, None] * torch.nan_to_num(g / size))


def _importance(weights: Sequence[Tensor], data: Data, task: int) -> list[Tensor]:
    """The diagonal of the Fisher information, from the squared gradients of single examples."""
    found = [torch.zeros_like(w) for w in weights]
    for row in range(20):
        x, y = data.x[:, task, row : row + 1], data.y[:, task, row : row + 1]
        loss = _cross_entropy(_logits(weights, x), y)
        for f, g in zip(found, torch.autograd.grad(loss, weights, torch.ones_like(loss)), strict=True):
            f += g**2 / 20
    return found
