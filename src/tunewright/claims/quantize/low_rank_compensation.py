"""A low-rank correction of rounded weights (card 199)."""

from __future__ import annotations

from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.evaluate.base import Floats
from tunewright.evaluate.tasks.retention import Retention

FORMS: dict[str, dict[str, Any]] = {
    "4 bits, rank 0": {"bits": 4, "group": 512, "rank": 0},
    "4 bits, rank 8": {"bits": 4, "group": 512, "rank": 8},
    "3 bits, rank 0": {"bits": 3, "group": 512, "rank": 0},
    "3 bits, rank 8": {"bits": 3, "group": 512, "rank": 8},
    "3 bits, group 32": {"bits": 3, "group": 32, "rank": 0},
    "3 bits, symmetric": {"bits": 3, "group": 512, "rank": 0, "symmetric": True},
}


class LowRankCompensation(Claim):
    """Storing the largest part of the rounding error as two thin matrices wins back part of what few bits lose.

    Every matrix of the embedded model's blocks is rounded with one range per row, or per 32 weights, to 4 or 3 bits;
    rank 8 is the correction. The loss is that on 400 retention texts; nothing is trained. Corrections take 8 (in + out)
    numbers of 16 bits per matrix. GPTQ and quantised activations are not tested here.
    """

    name: ClassVar[str] = "low_rank_compensation"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="ZeroQuant-V2: Exploring Post-training Quantization in LLMs from Comprehensive Study to Low Rank "
            "Compensation",
            arxiv="2303.08302",
            card=199,
        ),
    )
    sentence: ClassVar[str] = (
        "A correction of rank 8 lowers the loss of weights rounded to 4 and to 3 bits; groups of 32 weights lose less "
        "than whole rows, and asymmetric ranges less than symmetric ones."
    )
    arms: ClassVar = {name: f"{name}, one range per row unless a group is named" for name in FORMS}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss at 4 bits, with minus without correction", "below", -0.001, "nats per token"),
        Criterion("loss at 3 bits, with minus without correction", "below", -0.005, "nats per token"),
        Criterion("loss at 3 bits, groups of 32 minus rows", "below", -0.005, "nats per token"),
        Criterion("loss at 3 bits, asymmetric minus symmetric", "below", -0.005, "nats per token"),
    )
    seeds: ClassVar[int] = 1
    budget: ClassVar[str] = "no training; every matrix of 8 blocks, 400 texts"

    def findings(self, bench: Bench) -> Findings:
        """The loss of every text under every form."""
        loss = {name: _losses(bench, name, {"method": "lorc", **form}) for name, form in FORMS.items()}
        plain = _losses(bench, "as it is", None)
        apart = lambda one, other: (loss[one] - loss[other]).tolist()
        pairs = (
            ("4 bits, rank 8", "4 bits, rank 0"),
            ("3 bits, rank 8", "3 bits, rank 0"),
            ("3 bits, group 32", "3 bits, rank 0"),
            ("3 bits, rank 0", "3 bits, symmetric"),
        )
        values = {c.quantity: apart(*pair) for c, pair in zip(self.criteria, pairs, strict=True)}
        return Findings(
            values, {"mean loss": {name: float(x.mean()) for name, x in ({"as it is": plain} | loss).items()}}
        )


def _losses(bench: Bench, arm: str, quantize: dict[str, Any] | None) -> Floats:
    """The loss of each retention text on the model so stored."""
    source = {"path": "nano:sentiment/train", "limit": 20}
    made = {
        "model": {"path": "nano", "quantize": quantize},
        "data": {"train": source, "eval": {**source, "path": "nano:sentiment/test"}},
        "train": {"steps": 1, "precision": "fp32", "rehearsal": False},
        "evaluate": [],
    }
    trial = bench.trial(arm, made)
    with trial.base():
        return Retention(texts=400).score(trial.subject()).values
