"""Training slices of the weights (card 186)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import Tensor

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Bench, Criterion, Trial

TASKS = ("arithmetic", "translation")
STEPS, TOKENS, HELD = 24, 512, 80
RATIO = 0.1485
"""608 of 4,096 channels of 192 numbers: as many as LoRA of rank 4 has on all linear layers."""


def _arm(skill: str, adapter: Mapping[str, Any]) -> dict[str, Any]:
    return {"adapter": adapter, "data": recipe(skill, steps=STEPS, held=HELD)["data"]}


class SlicedWeights(AtBestRate):
    """S2FT learns as well as LoRA of its size, forgets less, and adds up with less loss.

    The embedded model learns arithmetic, and apart from it translation; for the second task S2FT takes channels that
    the first one left alone (`smallest` turns the random order round). The score is 100 exp(-loss), the geometric mean
    probability of an answer's tokens; what is forgotten is the loss on texts of the base's own kind. Added up are the
    two tasks' changes of the weights; the loss is the rise of both tasks' losses over those of their own models. Down
    projections train, the authors' default. Not tested here: memory and speed.
    """

    name: ClassVar[str] = "sliced_weights"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="S^{2}FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity",
            arxiv="2412.06289",
            card=186,
        ),
    )
    sentence: ClassVar[str] = (
        "At LoRA's number of trained values S2FT's score is at most a point lower, its loss on general text smaller, and "
        "two tasks' changes add up with less loss."
    )
    arms: ClassVar = {
        "s2ft": "14.85% of the down channels, arithmetic",
        "s2ft second": "as many others, translation",
        "lora": "LoRA of rank 4 on all linear layers, arithmetic",
        "lora second": "LoRA of rank 4, translation",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("score, S2FT minus LoRA", "above", -1.0, "points"),
        Criterion("loss on general text, S2FT minus LoRA", "below", -0.005, "nats per token"),
        Criterion("rise of loss by adding up, S2FT minus LoRA", "below", -0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "24 steps of 512 tokens, three rates on one seed, then five seeds, per arm"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        TASKS[0], steps=STEPS, tokens=TOKENS, evaluate=["perplexity", {"task": "retention", "texts": 60}]
    )
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "s2ft": _arm(TASKS[0], {"method": "s2ft", "ratio_down": RATIO}),
        "s2ft second": _arm(TASKS[1], {"method": "s2ft", "ratio_down": RATIO, "smallest": True}),
        "lora": _arm(TASKS[0], {"method": "lora", "rank": 4, "alpha": 8}),
        "lora second": _arm(TASKS[1], {"method": "lora", "rank": 4, "alpha": 8}),
    }
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3, 1e-2)
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "score, S2FT minus LoRA": ("score", "s2ft", "lora"),
        "loss on general text, S2FT minus LoRA": ("retention", "s2ft", "lora"),
        "rise of loss by adding up, S2FT minus LoRA": ("rise", "s2ft second", "lora second"),
    }
    _first: dict[str, tuple[dict[str, Tensor], float]] = PrivateAttr(default_factory=dict)

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run; each seed draws its own channels."""
        made = super().made(arm, rate, seed, split)
        drawn = {"seed": seed} if arm.startswith("s2ft") else {}
        return {**made, "adapter": {**made["adapter"], **drawn}}

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """Score and loss on general text; for the second task also what adding both changes up costs."""
        loss, kept = (trial.scores()[name].score for name in ("perplexity", "retention"))
        found = {"score": 100 * math.exp(-loss), "retention": kept}
        method, _, second = arm.partition(" ")
        if not second:
            self._first[method] = (_change(trial), loss)
            return found
        change, other = self._first[method]
        return {**found, "rise": self._added(bench, [change, _change(trial)]) - (loss + other) / 2}

    def _added(self, bench: Bench, changes: Sequence[Mapping[str, Tensor]]) -> float:
        """The mean loss of both tasks under the sum of the changes."""
        held = [{"path": f"nano:{task}/test", "limit": HELD, "name": task} for task in TASKS]
        data = {**self.recipe["data"], "eval": held}
        added = bench.trial("added", {**self.recipe, "data": data, "adapter": "full", "evaluate": ["perplexity"]})
        with torch.no_grad():
            for change in changes:
                for name, matrix in change.items():
                    added.policy.model.get_submodule(name).weight += matrix
        scores = added.scores()["perplexity"]
        own = [np.array([group == task for group in scores.groups]) for task in TASKS]
        return float(np.mean([np.average(scores.values[rows], weights=scores.weights[rows]) for rows in own]))


def _change(trial: Trial) -> dict[str, Tensor]:
    """What training added to each matrix."""
    pairs = trial.attached.as_lora().pairs
    return {name: (one.alpha / len(one.down)) * (one.up @ one.down).detach() for name, one in pairs.items()}
