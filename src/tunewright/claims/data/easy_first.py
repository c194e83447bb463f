"""Weights that trust easy rows first (card 249)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._answers import OnRows, Rows, answers, likelihoods, written
from tunewright.claims._nano import recipe
from tunewright.claims._pretrained import with_data
from tunewright.claims.base import Bench, Criterion

STEPS, ROWS, WRONG = 40, 400, 0.25


class EasyFirst(OnRows):
    """Rows that an untrained judge finds easy, trusted first, tune no worse than equal weights, and hard rows first worse.

    LoRA on the embedded model for 40 steps of 512 tokens of 400 answers about facts, a quarter of them wrong. A row's ease is
    the share of rows whose answer the model before tuning finds less likely: right for most wrong rows, and wrong for
    some right ones. The weights fade to equal ones by half of the run. Measured by the loss of 150 right answers.
    On translations both
    differences lay on their bounds over six seeds. The paper re-ranks documents and counts MRR; this tests its weights on generated answers, which are no ranking.
    """

    name: ClassVar[str] = "easy_first"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Training Curricula for Open Domain Answer Re-Ranking", arxiv="2004.14269", card=249),
    )
    sentence: ClassVar[str] = (
        "On rows of which a quarter are wrong, weights that begin with easy rows end no higher than equal weights, and "
        "equal weights below ones that begin with hard rows."
    )
    arms: ClassVar = {"easy": "easy rows count first", "none": "equal weights", "hard": "hard rows count first"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, easy first minus equal", "below", 0.01, "nats per token"),
        Criterion("loss, equal minus hard first", "below", -0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 8
    budget: ClassVar[str] = "40 steps of 512 tokens, two rates on one seed, then eight seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe("facts", steps=STEPS, tokens=512, evaluate=["perplexity"])
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "easy": {"data": with_data(recipe, order={"method": "curriculum"})["data"]},
        "none": {},
        "hard": {"data": with_data(recipe, order={"method": "curriculum", "reversed": True})["data"]},
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss, easy first minus equal": ("perplexity", "easy", "none"),
        "loss, equal minus hard first": ("perplexity", "none", "hard"),
    }

    def rows(self, bench: Bench, folder: str) -> Rows:
        """Answers with their ease."""
        rows = answers("facts", ROWS, WRONG)
        plain = with_data(self.recipe, train={"path": written(folder, "plain", rows)})
        ranks = np.argsort(np.argsort(likelihoods(bench.trial("first", plain))))
        return [{**row, "ease": rank / (ROWS - 1)} for row, rank in zip(rows, ranks.tolist(), strict=True)]
