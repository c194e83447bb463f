"""Growing single weights where gradients are large (card 38)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Bench, Criterion, Findings, Trial

STEPS, TOKENS = 80, 256


class RegrownEntries(AtBestRate):
    """SpIEL, which moves its numbers to large gradients, learns more than the same numbers at random places.

    Arithmetic on the embedded model, one percent of every linear layer's weights; LoRA of rank 1 has 0.8 percent. The
    fixed mask is the random first one, kept. For the gradients, those of other rows are taken at the untuned model: the
    mean of |dL/dW| over the places SpIEL ends with and over all of a matrix, as the log of their ratio, averaged over
    matrices. Not tested here: the memory-efficient criterion, quantized weights, model sizes.
    """

    name: ClassVar[str] = "regrown_entries"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Scaling Sparse Fine-Tuning to Large Language Models", arxiv="2401.16405", card=38),
    )
    sentence: ClassVar[str] = (
        "At its best rate SpIEL ends lower than a random fixed mask of its size and no higher than LoRA of rank 1, and "
        "its places have larger gradients than random ones."
    )
    arms: ClassVar = {
        "spiel": "1% of the weights, regrown by gradients",
        "fixed": "1% of the weights, where they began",
        "lora": "LoRA of rank 1 on all linear layers",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, SpIEL minus fixed mask", "below", -0.01, "nats per token"),
        Criterion("loss, SpIEL minus LoRA", "below", 0.01, "nats per token"),
        Criterion("log ratio of gradients at SpIEL's places", "above", 0.1, "log ratio"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "80 steps of 256 tokens, two rates on one seed, then four seeds, per arm"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "arithmetic", steps=STEPS, tokens=TOKENS, held=120, evaluate=["perplexity"]
    )
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "spiel": {"adapter": "spiel"},
        "fixed": {"adapter": {"method": "spiel", "initial_reselection_rate": 0.0, "rate_policy": "cosine"}},
        "lora": {"adapter": {"method": "lora", "rank": 1, "alpha": 2}},
    }
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss, SpIEL minus fixed mask": ("perplexity", "spiel", "fixed"),
        "loss, SpIEL minus LoRA": ("perplexity", "spiel", "lora"),
        "log ratio of gradients at SpIEL's places": ("gradients", "spiel", "lora"),
    }

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The loss and, for SpIEL, how large gradients are at its places; 0 for others."""
        found = super().scored(bench, arm, trial)
        return {**found, "gradients": _gradients(bench, trial) if arm == "spiel" else 0.0}

    def findings(self, bench: Bench) -> Findings:
        """Every criterion's difference per seed, and the ratio of the losses of SpIEL and LoRA."""
        found = super().findings(bench)
        means = found.shown["means"]
        ratio = means["spiel"]["perplexity"] / means["lora"]["perplexity"]
        return Findings(found.values, {**found.shown, "loss, SpIEL over LoRA": ratio})


def _gradients(bench: Bench, trial: Trial) -> float:
    """log (mean |dL/dW| at the layer's places / mean |dL/dW|), the mean over layers, on rows in another order."""
    made = recipe("arithmetic", steps=4, tokens=1024, held=20, seed=77, adapter="full")
    fresh = bench.trial("gradients", made)
    for step in range(4):
        for batch in fresh.loop.prepared(step, fresh.loop.batches(step)):
            fresh.loop.losses(batch).total.backward()
    found = []
    for name, layer in trial.attached.layers.items():
        size = fresh.policy.model.get_submodule(name).weight.grad.abs().flatten()
        found.append(math.log(float(size[layer.places.long()].mean() / size.mean())))
    return float(np.mean(found))
