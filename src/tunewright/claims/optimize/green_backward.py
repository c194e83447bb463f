"""Choosing tensors by what their backward pass costs (card 94)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import PrivateAttr

from tunewright.catalog import Paper
from tunewright.claims._pretrained import OnPretrained, tuning
from tunewright.claims.base import Bench, Criterion, Trial
from tunewright.optimize.layers.greentrainer import Cost, GreenTrainer, _Green, costs_of
from tunewright.train.loop import Loop

STEPS, SHARE = 100, 0.5
GREEN = {"share": SHARE, "every": 25}


class LastTensors(GreenTrainer):
    """The control: as many tensors from the output on as the operations pay for."""

    def hook(self) -> _Last:
        return _Last(self)


class _Last(_Green):
    def chosen(self, loop: Loop, turn: int) -> list[str]:
        costs, beyond = costs_of(loop)
        names = [cost.name for cost in costs]
        fitting = (k for k in range(len(names), 0, -1) if operations(costs, beyond, names[:k]) <= self.method.share)
        return names[: next(fitting, 0)]


def operations(costs: Sequence[Cost], beyond: float, chosen: Sequence[str]) -> float:
    """Operations of a step that trains the chosen tensors, as a share of those of full tuning."""
    forward = sum(cost.forward for cost in costs)
    whole = forward + beyond + sum(cost.own + cost.through for cost in costs)
    places = [place for place, cost in enumerate(costs) if cost.name in chosen]
    through = beyond + sum(cost.through for cost in costs[: max(places)]) if places else 0.0
    return (forward + through + sum(costs[place].own for place in places)) / whole


class GreenBackward(OnPretrained):
    """Half of the operations of a step, spent on the tensors that matter most, tune about as well as all of them.

    A decoder of 1.0 million parameters, 8 blocks of width 96, first trained on five other skills; then 100 steps of 512
    tokens of instructions and word problems, tensors chosen every 25 steps. The rate is that of 3e-4 and 1e-3 which
    suits full tuning. The control trains the tensors nearest the output, as many as the same operations pay for.
    Operations are counted, not timed, without those of the choice itself (one trial step per choice), which at a choice
    per epoch or two are the paper's small extra.
    """

    name: ClassVar[str] = "green_backward"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Towards Green AI in Fine-tuning Large Language Models via Adaptive Backpropagation",
            arxiv="2309.13192",
            card=94,
        ),
    )
    sentence: ClassVar[str] = (
        "With half of the operations of full tuning GreenTrainer ends within 3% of its loss after as many steps, and "
        "below training only the last tensors at the same cost."
    )
    arms: ClassVar = {
        "full": "all tensors",
        "green": "GreenTrainer, half of the operations",
        "last": "the tensors nearest the output, half of the operations",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("operations of a step, GreenTrainer minus full tuning", "below", -0.49, "share of full tuning's"),
        Criterion("log of the loss, GreenTrainer minus full tuning", "below", 0.03, "log ratio"),
        Criterion("loss, GreenTrainer minus last tensors", "below", -0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "100 steps of 512 tokens, two rates on one seed, then five seeds, after 400 steps once"
    width: ClassVar[int] = 96
    recipe: ClassVar[Mapping[str, Any]] = tuning(STEPS, ("instructions", "word_problems"))
    rates: ClassVar[Sequence[float]] = (3e-4, 1e-3)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "full": {},
        "green": {"layers": {"method": "greentrainer", **GREEN}},
        "last": {"layers": LastTensors.model_validate(GREEN)},
    }

    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "operations of a step, GreenTrainer minus full tuning": ("operations", "green", "full"),
        "log of the loss, GreenTrainer minus full tuning": ("log loss", "green", "full"),
        "loss, GreenTrainer minus last tensors": ("loss", "green", "last"),
    }
    _rate: float = PrivateAttr(0.0)

    def best(self, bench: Bench, arm: str) -> float:
        """The rate that suits full tuning, for every arm."""
        if arm == "full":
            self._rate = super().best(bench, arm)
        return self._rate

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss, and the operations of the last choice."""
        chosen = [hook.at_work for hook in trial.loop.hooks if isinstance(hook, _Green)]
        cost = operations(*costs_of(trial.loop), chosen[0]) if chosen else 1.0
        loss = trial.scores()["perplexity"].score
        return {"loss": loss, "log loss": math.log(loss), "operations": cost}
