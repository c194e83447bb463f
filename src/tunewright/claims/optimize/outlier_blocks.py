"""Blocks drawn by their outliers (card 128)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._pretrained import OnPretrained, tuning
from tunewright.claims.base import Bench, Criterion, Trial
from tunewright.optimize.layers._drawn import Draws

STEPS = 80
OWLORE = {"method": "owlore", "blocks": 2, "every": 8, "threshold": 3.0}


class OutlierBlocks(OnPretrained):
    """Drawing the blocks with more outliers helps, and five low-rank blocks are worth more than two whole ones.

    A decoder of 0.5 million parameters, 8 blocks of width 64, first trained on five other skills; then 80 steps of 512
    tokens of instructions and word problems, with a new draw every 8 steps. Outliers are those that training left, at
    3 times the mean; none are planted. With rank 19 GaLore's basis and moments of five blocks hold 182 thousand
    numbers, the moments of two whole blocks 189 thousand.
    """

    name: ClassVar[str] = "outlier_blocks"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="OwLore: Outlier-weighed Layerwise Sampled Low-Rank Projection for Memory-Efficient LLM Fine-tuning",
            arxiv="2405.18380",
            card=128,
        ),
    )
    sentence: ClassVar[str] = (
        "Each at the best of three rates, drawing blocks by outliers ends below drawing them the other way round and "
        "no higher than drawing evenly; five low-rank blocks end below two whole ones with as much optimizer state."
    )
    arms: ClassVar = {
        "outliers": "2 blocks drawn by outliers",
        "reversed": "2 blocks drawn by the largest share minus their own",
        "uniform": "2 blocks drawn evenly",
        "low_rank": "5 blocks drawn by outliers, gradients of rank 19",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, by outliers minus reversed", "below", -0.01, "nats per token"),
        Criterion("loss, by outliers minus evenly", "below", 0.01, "nats per token"),
        Criterion("loss, five low-rank blocks minus two whole", "below", -0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "80 steps of 512 tokens, three rates on one seed, then four seeds, after 400 steps once"
    recipe: ClassVar[Mapping[str, Any]] = tuning(STEPS, ("instructions", "word_problems"))
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3, 1e-2)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "outliers": {"layers": OWLORE},
        "reversed": {"layers": {**OWLORE, "by": "reversed"}},
        "uniform": {"layers": {**OWLORE, "by": "uniform"}},
        "low_rank": {"layers": {**OWLORE, "blocks": 5}, "optimizer": {"method": "galore", "rank": 19, "gap": 8}},
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss, by outliers minus reversed": ("loss", "outliers", "reversed"),
        "loss, by outliers minus evenly": ("loss", "outliers", "uniform"),
        "loss, five low-rank blocks minus two whole": ("loss", "low_rank", "outliers"),
    }

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss, and the probability with which each block was drawn first."""
        [draws] = [hook for hook in trial.loop.hooks if isinstance(hook, Draws)]
        assert draws.probabilities is not None
        shares = {f"share of block {place}": float(share) for place, share in enumerate(draws.probabilities)}
        return {"loss": trial.scores()["perplexity"].score, **shares}
