"""Tuning a network beside a frozen one (card 144)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims.base import Bench, Claim, Criterion, Findings, Trial

STEPS, TOKENS, RATE = 200, 256, 1e-2
RATES = (1e-3, 3e-3)
SIDE = {"method": "qst", "reduction": 4, "gate": "sigmoid"}


class SideNetwork(Claim):
    """A side network keeps far less for its backward pass than LoRA and learns nearly as much.

    Word problems on the embedded model in float32, 200 steps of 256 tokens at a constant rate: QST of a quarter of the
    width at 1e-2, LoRA of rank 16 on all linear layers at the better of two rates. Bytes are those of the tensors kept
    for the backward pass of the first micro-batch, each storage once, parameters not counted. Not tested here:
    quantized weights, speed.
    """

    name: ClassVar[str] = "side_network"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Quantized Side Tuning: Fast and Memory-Efficient Tuning of Quantized Large Language Models",
            arxiv="2401.07159",
            card=144,
        ),
    )
    sentence: ClassVar[str] = (
        "QST keeps less than half of the bytes that LoRA keeps for its backward pass, and goes 90% of the way from the "
        "untuned loss to LoRA's in as many updates."
    )
    arms: ClassVar = {"qst": "side network of a quarter of the width", "lora": "LoRA of rank 16"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("kept bytes, QST over LoRA", "below", 0.5, "ratio"),
        Criterion("share of LoRA's fall of the loss", "above", 0.9, "ratio"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "200 steps of 256 tokens per arm and seed, and two rates of LoRA on one more seed"

    def findings(self, bench: Bench) -> Findings:
        """Both ratios per seed."""
        tuning = [self._run(bench, "lora", rate, TUNING_SEED, "tuning")[1] for rate in RATES]
        rate = RATES[int(np.argmin(tuning))]
        rows, told = [], []
        for seed in range(self.seeds):
            side, lora = self._run(bench, "qst", RATE, seed, "test"), self._run(bench, "lora", rate, seed, "test")
            untuned = lora[2]
            rows.append((side[0] / lora[0], (untuned - side[1]) / (untuned - lora[1])))
            told.append((untuned, side[1], lora[1]))
        shown = dict(zip(("untuned loss", "QST", "LoRA"), np.mean(told, axis=0).tolist(), strict=True))
        values = {one.quantity: [row[place] for row in rows] for place, one in enumerate(self.criteria)}
        return Findings(values, {**shown, "rate of LoRA": rate})

    def _run(self, bench: Bench, arm: str, rate: float, seed: int, split: str) -> tuple[int, float, float]:
        """Bytes kept for the first backward pass, and the loss after and before training."""
        adapter = SIDE if arm == "qst" else {"method": "lora", "rank": 16, "alpha": 32}
        made = recipe(
            "word_problems", steps=STEPS, tokens=TOKENS, held=100, seed=seed, adapter=adapter, schedule="constant",
            optimizer={"method": "adamw", "lr": rate}, evaluate=["perplexity"],
        )  # fmt: skip
        made["data"]["eval"]["path"] = f"nano:word_problems/{split}"
        trial = bench.trial(arm, made)
        with trial.base():
            before = trial.scores()["perplexity"].score
        kept = _kept(trial)
        trial.advance()
        return kept, trial.scores()["perplexity"].score, before


def _kept(trial: Trial) -> int:
    """Bytes of the tensors kept for the backward pass of the first micro-batch, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in trial.policy.parameters()}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Any:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # Held, so that its place is not used again.
        return tensor

    [batch, *_] = trial.loop.prepared(0, trial.loop.batches(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trial.loop.losses(batch)
    return sum(one.untyped_storage().nbytes() for place, one in held.items() if place not in own)
