"""A rank budget that moves between layers (card 91)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.adapters.low_rank.adalora import AttachedAdaLoRA
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Bench, Criterion, Trial

STEPS = 100


class RankBudget(AtBestRate):
    """At an average rank of 1, ranks that move to where they matter do as well as one everywhere.

    Translations on the embedded model, all linear layers, 100 steps of 384 tokens. AdaLoRA begins with rank 2 and prunes
    between steps 10 and 60 to as many triplets as there are layers. Measured by the loss of 150 held-out rows, which
    decides with fewer seeds than right answers; higher budgets are not tested.
    """

    name: ClassVar[str] = "rank_budget"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", arxiv="2303.10512", card=91),
    )
    sentence: ClassVar[str] = (
        "With an average rank of 1, each at the best of three rates, AdaLoRA ends no higher than LoRA, and its layers "
        "end with different ranks."
    )
    arms: ClassVar = {"adalora": "AdaLoRA from rank 2 to 1 on average", "lora": "LoRA of rank 1"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, AdaLoRA minus LoRA", "below", 0.01, "nats per token"),
        Criterion("range of final ranks, AdaLoRA minus LoRA", "above", 0.5, "ranks"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "100 steps of 384 tokens, three rates on one seed, then four seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe("translation", steps=STEPS, tokens=384, evaluate=["perplexity"])
    rates: ClassVar[Sequence[float]] = (3e-3, 1e-2, 3e-2)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "adalora": {
            "adapter": {
                "method": "adalora", "rank": 2, "alpha": 4, "target_rank": 1, "begin": 10, "end": 60, "every": 5,
            },
        },
        "lora": {"adapter": {"method": "lora", "rank": 1, "alpha": 2}},
    }  # fmt: skip
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss, AdaLoRA minus LoRA": ("loss", "adalora", "lora"),
        "range of final ranks, AdaLoRA minus LoRA": ("range", "adalora", "lora"),
    }

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss, and the largest rank of a layer minus the smallest."""
        ranks = [1]
        if isinstance(trial.attached, AttachedAdaLoRA):
            ranks = [int((layer.values != 0).sum()) for layer in trial.attached.layers.values()]
        return {"loss": trial.scores()["perplexity"].score, "range": float(max(ranks) - min(ranks))}
