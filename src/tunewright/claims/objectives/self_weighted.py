"""Weighing tokens by their own probability, with an anchor (card 272)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from tunewright.catalog import Paper
from tunewright.claims._answers import OnRows, Rows, answers
from tunewright.claims._nano import recipe
from tunewright.claims.base import Bench, Criterion, Trial
from tunewright.data.batches import collate

STEPS, ROWS, WRONG = 80, 400, 0.25


class SelfWeighted(OnRows):
    """Weights by the model's own probability let it drift; an anchor holds it, at no loss of right answers.

    LoRA on the embedded model, which translates about half of the held-out rows rightly, for 80 steps of 256 tokens of
    400 translations, a quarter of them wrong; each arm at the rate with the most right answers. Drift is
    KL(start || model) per token of 150 held-out translations; the loss on other text is shown. The anchor weighs 0.5:
    at the authors' 0.05 the card expects little to be seen. SFT with an anchor and without the weights is not tested.
    """

    name: ClassVar[str] = "self_weighted"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Anchored Supervised Fine-Tuning", arxiv="2509.23753", card=272),
    )
    sentence: ClassVar[str] = (
        "On rows of which a quarter are wrong, DFT drifts further from the start than SFT; ASFT drifts less than DFT, "
        "with right answers no rarer by two points."
    )
    arms: ClassVar = {
        "sft": "all tokens alike",
        "dft": "by their own probability",
        "asft": "by their own probability, with an anchor of weight 0.5",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("drift, DFT minus SFT", "above", 0.01, "nats per token"),
        Criterion("drift, ASFT minus DFT", "below", -0.01, "nats per token"),
        Criterion("right answers, ASFT minus DFT", "above", -0.02, "share"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "80 steps of 256 tokens, two rates on one seed, then four seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "translation", steps=STEPS, tokens=256, evaluate=["exact_match", {"task": "retention", "texts": 40}]
    )
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    tuned_by: ClassVar[str] = "exact_match"
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sft": {},
        "dft": {"objective": "dft"},
        "asft": {"objective": {"method": "asft", "kl_weight": 0.5}},
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "drift, DFT minus SFT": ("drift", "dft", "sft"),
        "drift, ASFT minus DFT": ("drift", "asft", "dft"),
        "right answers, ASFT minus DFT": ("exact_match", "asft", "dft"),
    }

    def rows(self, bench: Bench, folder: str) -> Rows:
        """Translations, a quarter of them wrong."""
        return answers("translation", ROWS, WRONG)

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """Right answers, loss on other text, and drift."""
        return {**super().scored(bench, arm, trial), "drift": _drift(trial)}


@torch.no_grad()
def _drift(trial: Trial) -> float:
    """KL(start || model) per token of the held-out answers."""
    trial.policy.eval()
    table = trial.rows.table
    total = count = 0.0
    for part in np.array_split(np.arange(len(table)), 10):
        batch = collate(table, part, False, 0)
        rows, cols = batch.kept
        logits = lambda: torch.log_softmax(trial.policy.logits(batch, rows, cols - 1).float(), -1)  # noqa: B023
        model = logits()
        with trial.base():
            start = logits()
        total += float((start.exp() * (start - model)).sum())
        count += len(rows)
    return total / count
