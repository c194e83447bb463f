"""The natural gradient in GaLore's subspace (card 148)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._rates import AtBestRate
from tunewright.claims._small import recipe
from tunewright.claims.base import Criterion

STEPS = 250
GALORE = {"rank": 8, "gap": 50}


class NaturalSubspace(AtBestRate):
    """Multiplying GaLore's gradient by an inverse Fisher matrix ends lower after a short run.

    A decoder of 0.2 million parameters of width 64 trained from nothing for 250 steps with rank 8 and a new subspace
    every 50 steps; damping absolute, as the paper has it, and relative to the gradients' squared norm.
    """

    name: ClassVar[str] = "natural_subspace"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Natural GaLore: Accelerating GaLore for memory-efficient LLM Training and Fine-tuning",
            arxiv="2410.16029",
            card=148,
        ),
    )
    sentence: ClassVar[str] = (
        "At the best of three rates Natural GaLore ends lower than GaLore, with the paper's absolute damping and with "
        "relative damping."
    )
    arms: ClassVar = {
        "galore": "GaLore of rank 8",
        "absolute": "Natural GaLore, damping 1e-3",
        "relative": "Natural GaLore, damping 1.0 of the mean squared norm",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, absolute damping minus GaLore", "below", -0.01, "nats per token"),
        Criterion("loss, relative damping minus GaLore", "below", -0.01, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "250 steps of 512 tokens, three rates on one seed, then five seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe(steps=STEPS)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "galore": {"optimizer": {"method": "galore", **GALORE}},
        "absolute": {"optimizer": {"method": "natural_galore", **GALORE}},
        "relative": {"optimizer": {"method": "natural_galore", "damping": 1.0, "damping_mode": "relative", **GALORE}},
    }
    rates: ClassVar[Sequence[float]] = (3e-3, 1e-2, 3e-2)
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss, absolute damping minus GaLore": ("perplexity", "absolute", "galore"),
        "loss, relative damping minus GaLore": ("perplexity", "relative", "galore"),
    }
