"""A few random blocks at a time (card 93)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._pretrained import OnPretrained, tuning
from tunewright.claims.base import Bench, Criterion, Trial

STEPS = 100


class SampledBlocks(OnPretrained):
    """Two random blocks at a time learn more than LoRA with as many trained numbers, and nearly as much as full tuning.

    A decoder of 0.5 million parameters, 8 blocks of width 64, first trained on five other skills; then 100 steps of 512
    tokens of instructions and word problems, with a new draw every 10 steps, so that each block is drawn 2.5 times
    on average. Embeddings always train, as in the paper; with two blocks those are 226 thousand numbers at a time, as
    many as LoRA of rank 24 has. Memory itself is not measured.
    """

    name: ClassVar[str] = "sampled_blocks"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LISA: Layerwise Importance Sampling for Memory-Efficient Large Language Model Fine-Tuning",
            arxiv="2403.17919",
            card=93,
        ),
    )
    sentence: ClassVar[str] = (
        "Each at the best of three rates, LISA with two of eight blocks ends below LoRA with as many trained numbers "
        "and within 3% of full tuning's loss, after equal steps."
    )
    arms: ClassVar = {
        "lisa": "LISA, 2 of 8 blocks for 10 steps at a time",
        "lora": "LoRA of rank 24 on all linear layers",
        "full": "all parameters",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, LISA minus LoRA", "below", -0.01, "nats per token"),
        Criterion("log of the loss, LISA minus full tuning", "below", 0.03, "log ratio"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "100 steps of 512 tokens, three rates on one seed, then five seeds, after 400 steps once"
    recipe: ClassVar[Mapping[str, Any]] = tuning(STEPS, ("instructions", "word_problems"))
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3, 1e-2)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "lisa": {"layers": {"method": "lisa", "blocks": 2, "every": 10}},
        "lora": {"adapter": {"method": "lora", "rank": 24, "alpha": 48}},
        "full": {},
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss, LISA minus LoRA": ("loss", "lisa", "lora"),
        "log of the loss, LISA minus full tuning": ("log loss", "lisa", "full"),
    }

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss and its logarithm."""
        loss = trial.scores()["perplexity"].score
        return {"loss": loss, "log loss": math.log(loss)}
