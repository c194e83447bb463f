"""Scales and shifts against the head alone and against all parameters (card 25)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Bench, Criterion, Findings, Trial

STEPS, TOKENS = 24, 512


@cache
def untied() -> TemporaryDirectory[str]:
    """A folder with the embedded model whose output head is a matrix of its own, beginning as the embeddings."""
    from tunewright.models.load import load
    from tunewright.recipe import ModelSpec

    folder = TemporaryDirectory(prefix="untied-")
    loaded = load(ModelSpec(), "fp32")
    model: Any = loaded.policy.model
    state = dict(model.state_dict())
    state["lm_head.weight"] = model.get_input_embeddings().weight.detach().clone()
    model.config.tie_word_embeddings = False
    again = type(model)(model.config)
    again.load_state_dict(state)
    again.generation_config = model.generation_config
    again.save_pretrained(folder.name)
    loaded.tokenizer.save_pretrained(folder.name)
    return folder


class ScaleAndShift(AtBestRate):
    """SSF learns more than a linear probe and nearly as much as full tuning.

    The embedded model learns translations; on word problems SSF was 2.1 points below full tuning over four seeds, on
    its bound. A probe trains the output head alone, on a copy of the model in which that is
    not the embedding matrix. The score is 100 exp(-loss), the geometric mean probability of an answer's tokens. The
    paper's tasks are classifications of images, with features of the last layer read by a new head; the embedded model
    learns such labels of texts too slowly, so that answers stand in their place, and SSF trains no head here.
    """

    name: ClassVar[str] = "scale_and_shift"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning",
            arxiv="2210.08823",
            card=25,
        ),
    )
    sentence: ClassVar[str] = (
        "With less than 2% of the parameters SSF scores above a linear probe and within two points of full tuning."
    )
    arms: ClassVar = {"ssf": "scales and shifts", "probe": "the output head alone", "full": "all parameters"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("score, SSF minus probe", "above", 0.0, "points"),
        Criterion("score, SSF minus full tuning", "above", -2.0, "points"),
        Criterion("parameters that SSF trains", "below", 2.0, "percent"),
    )
    seeds: ClassVar[int] = 6
    budget: ClassVar[str] = "24 steps of 512 tokens, four rates on one seed, then six seeds, per arm"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "translation", steps=STEPS, tokens=TOKENS, held=120, evaluate=["perplexity"]
    )
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "ssf": {"adapter": "ssf"},
        "probe": {"adapter": {"method": "full", "train_modules": ["lm_head"]}},
        "full": {"adapter": "full"},
    }
    rates: ClassVar[Sequence[float]] = (3e-4, 1e-3, 3e-3, 1e-2)
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "score, SSF minus probe": ("score", "ssf", "probe"),
        "score, SSF minus full tuning": ("score", "ssf", "full"),
    }

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        made = super().made(arm, rate, seed, split)
        return {**made, "model": untied().name} if arm == "probe" else made

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The score and the number of values that train."""
        trains = sum(one.numel() for one in trial.attached.trained().values())
        return {"score": 100 * math.exp(-trial.scores()["perplexity"].score), "trains": float(trains)}

    def findings(self, bench: Bench) -> Findings:
        """Differences of scores per seed, and the share that trains."""
        found = super().findings(bench)
        trains = {arm: means["trains"] for arm, means in found.shown["means"].items()}
        share = 100 * trains["ssf"] / trains["full"]
        return Findings({**found.values, "parameters that SSF trains": [share] * self.seeds}, found.shown)
