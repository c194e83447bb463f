"""Policy gradient over single tokens (card 273)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Criterion

STEPS = 60


class TokenGames(AtBestRate):
    """One-token rollouts and DFT keep more of what the model knew than SFT, and drawing candidates does as well as exactly
    summing over them.

    LoRA on the embedded model, which translates about half of the held-out rows rightly, for 60 steps of 256 tokens of
    translations; each arm at the rate with the most right answers. What it knew is measured by the loss of 60 texts of
    the kind it was trained on; right answers are counted on 150 rows. Other skills' right answers are not counted.
    """

    name: ClassVar[str] = "token_games"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="One-Token Rollout: Guiding Supervised Fine-Tuning of LLMs with Policy Gradient",
            arxiv="2509.26313",
            card=273,
        ),
    )
    sentence: ClassVar[str] = (
        "After tuning by one-token rollout or DFT the loss on earlier text is lower than after SFT, and 256 sampled "
        "candidates give as many right answers as all of them, within 3 points."
    )
    arms: ClassVar = {
        "sft": "likelihood",
        "dft": "likelihood by the token's own probability",
        "sampled": "one-token rollout, 256 candidates",
        "exact": "one-token rollout, all candidates",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss on earlier text, one-token rollout minus SFT", "below", -0.01, "nats per token"),
        Criterion("loss on earlier text, DFT minus SFT", "below", -0.01, "nats per token"),
        Criterion("right answers, sampled minus exact", "within", 0.03, "share"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "60 steps of 256 tokens, two rates on one seed, then four seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "translation", steps=STEPS, tokens=256, train=400,
        evaluate=["exact_match", {"task": "retention", "texts": 60}],
    )  # fmt: skip
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    tuned_by: ClassVar[str] = "exact_match"
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sft": {},
        "dft": {"objective": "dft"},
        "sampled": {"objective": {"method": "one_token_rollout", "samples": 256}},
        "exact": {"objective": {"method": "one_token_rollout", "estimator": "exact"}},
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss on earlier text, one-token rollout minus SFT": ("retention", "sampled", "sft"),
        "loss on earlier text, DFT minus SFT": ("retention", "dft", "sft"),
        "right answers, sampled minus exact": ("exact_match", "sampled", "exact"),
    }
