"""Quantised weights and a low-rank pair chosen together (card 90)."""

from __future__ import annotations

from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.evaluate.base import Floats
from tunewright.evaluate.tasks.perplexity import Perplexity
from tunewright.evaluate.tasks.retention import Retention

RANK = 8


class JointDecomposition(Claim):
    """LQ-LoRA begins closer to the model than quantisation alone, and stays ahead of it in training.

    The embedded model at 3 and at 4 bits in blocks of 64, rank 8. Before training: the loss on 400 retention texts of
    the decomposition, minus that of the same NormalFloat without a pair. After training: word problems, 24 steps at
    rate 3e-3, held-out loss of LQ-LoRA minus that of LoRA on NF4, both of rank 8 at 4.13 bits per weight. The paper's
    mixed bits and Fisher weights are not tested here.
    """

    name: ClassVar[str] = "joint_decomposition"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LQ-LoRA: Low-rank Plus Quantized Matrix Decomposition for Efficient Language Model Finetuning",
            arxiv="2311.12023",
            card=90,
        ),
    )
    sentence: ClassVar[str] = (
        "Before training LQ-LoRA's loss is below that of NormalFloat alone at 3 bits and at 4, and after equal training "
        "it is below that of LoRA on NF4."
    )
    arms: ClassVar = {
        "lq_lora": "quantised part and pair by turns",
        "quantised": "NormalFloat without a pair at the start",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss of a text before training at 3 bits", "below", -0.005, "nats per token"),
        Criterion("loss of a text before training at 4 bits", "below", -0.001, "nats per token"),
        Criterion("held-out loss after training at 4 bits", "below", -0.002, "nats per token"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "24 steps of 1,024 tokens per arm and seed"

    def findings(self, bench: Bench) -> Findings:
        """Differences per text and per seed."""
        joint = {bits: {"method": "lq_lora", "rank": RANK, "bits": bits} for bits in (3, 4)}
        values = {
            self.criteria[row].quantity: (self._start(bench, joint[bits], True) - self._start(bench, {**joint[bits], "iterations": 0}, False)).tolist()
            for row, bits in enumerate((3, 4))
        }  # fmt: skip
        ends = {
            arm: [self._end(bench, arm, quantize, seed) for seed in range(self.seeds)]
            for arm, quantize in (("lq_lora", joint[4]), ("quantised", {"method": "nf4"}))
        }
        values[self.criteria[2].quantity] = [a - b for a, b in zip(ends["lq_lora"], ends["quantised"], strict=True)]
        return Findings(values, {"held-out losses after training": ends})

    def _start(self, bench: Bench, quantize: dict[str, Any], paired: bool) -> Floats:
        """The loss of each text, with the pair or without."""
        trial = bench.trial("lq_lora" if paired else "quantised", _recipe(quantize, 0))
        if paired:
            return Retention(texts=400).score(trial.subject()).values
        with trial.base():
            return Retention(texts=400).score(trial.subject()).values

    def _end(self, bench: Bench, arm: str, quantize: dict[str, Any], seed: int) -> float:
        trial = bench.trial(arm, _recipe(quantize, seed))
        trial.advance()
        return Perplexity().score(trial.subject()).score


def _recipe(quantize: dict[str, Any], seed: int) -> dict[str, Any]:
    model = {"path": "nano", "quantize": quantize}
    return recipe(
        "word_problems", steps=24, tokens=1024, seed=seed, model=model, adapter={"method": "lora", "rank": RANK, "alpha": RANK}
    )  # fmt: skip
