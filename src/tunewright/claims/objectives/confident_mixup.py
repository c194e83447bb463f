"""Mixing confident rows with unconfident ones (card 75)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._answers import OnRows, Rows, answers, likelihoods, written
from tunewright.claims._nano import recipe
from tunewright.claims._pretrained import with_data
from tunewright.claims.base import Bench, Criterion

STEPS, ROWS, WRONG, CHECKPOINTS = 40, 200, 0.2, 3


class ConfidentMixup(OnRows):
    """Mixtures of confident and unconfident rows, told apart by an earlier run, lead to more right answers.

    LoRA on the embedded model for 40 steps of 512 tokens (3.8 passes) of 200 translations, a fifth of them wrong. The
    confidence of a row is minus its answer's perplexity, averaged over 3 points of a first run of SFT on the same rows.
    Right answers of 150 rows are counted. One kind of rows instead of several templates; the spread of confidences is
    not judged.
    """

    name: ClassVar[str] = "confident_mixup"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="SFTMix: Elevating Language Model Instruction Tuning with Mixup Recipe", arxiv="2410.05248", card=75
        ),
    )
    sentence: ClassVar[str] = (
        "On rows of which a fifth are wrong, each at the better of two rates, SFTMix ends with at least as many right "
        "answers as SFT and as mixing rows at random."
    )
    arms: ClassVar = {
        "sft": "no mixtures",
        "random": "mixtures of rows paired at random",
        "sftmix": "mixtures of a confident and an unconfident row",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("right answers, SFTMix minus SFT", "above", 0.0, "share"),
        Criterion("right answers, SFTMix minus random pairs", "above", -0.02, "share"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "40 steps of 512 tokens, two rates on one seed, then five seeds, and one first run"
    recipe: ClassVar[Mapping[str, Any]] = recipe("translation", steps=STEPS, tokens=512, evaluate=["exact_match"])
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    tuned_by: ClassVar[str] = "exact_match"
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sft": {},
        "random": {"objective": {"method": "sftmix", "split": "random"}},
        "sftmix": {"objective": "sftmix"},
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "right answers, SFTMix minus SFT": ("exact_match", "sftmix", "sft"),
        "right answers, SFTMix minus random pairs": ("exact_match", "sftmix", "random"),
    }

    def rows(self, bench: Bench, folder: str) -> Rows:
        """Translations with the confidence of a first run."""
        rows = answers("translation", ROWS, WRONG)
        first = bench.trial("first", with_data(self.recipe, train={"path": written(folder, "plain", rows)}))
        perplexities = []
        for _ in range(CHECKPOINTS):
            first.advance(self.recipe["train"]["steps"] // CHECKPOINTS)
            perplexities.append(np.exp(-likelihoods(first)))
        confidence = -np.mean(perplexities, axis=0)
        return [{**row, "confidence": value} for row, value in zip(rows, confidence.tolist(), strict=True)]
