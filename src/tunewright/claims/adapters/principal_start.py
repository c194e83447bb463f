"""Starting from the principal singular vectors (card 122)."""

from __future__ import annotations

import math
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.models.quantize._blockwise import dequantize, nf4, quantize

RATES = (3e-4, 1e-3, 3e-3)
STEPS, LAST, RANK = 50, 10, 8


class PrincipalStart(Claim):
    """PiSSA learns faster than LoRA of the same rank, and leaves less error when the rest is quantised.

    Word problems on the embedded model, rank 8 on all linear layers, 50 steps of 512 tokens at each of three rates; the
    training loss is averaged over the last 10 steps. The error is the nuclear norm of W minus what stands in its place
    at the start, per matrix: NF4 of the residual plus the principal part, against NF4 of W.
    """

    name: ClassVar[str] = "principal_start"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models",
            arxiv="2404.02948",
            card=122,
        ),
    )
    sentence: ClassVar[str] = (
        "At each of three rates PiSSA's training loss after 50 steps is below LoRA's, and its NF4 start has a smaller error."
    )
    arms: ClassVar = {"pissa": "PiSSA of rank 8", "lora": "LoRA of rank 8"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        *(
            Criterion(f"training loss at {rate:g}, PiSSA minus LoRA", "below", -0.005, "nats per token")
            for rate in RATES
        ),
        Criterion("log ratio of start errors of a matrix", "below", -0.01, "log ratio"),
    )
    seeds: ClassVar[int] = 7
    budget: ClassVar[str] = "50 steps of 512 tokens per arm, rate and seed"

    def findings(self, bench: Bench) -> Findings:
        """Losses per rate and seed, errors per matrix."""
        loss = np.zeros((2, len(RATES), self.seeds))
        for (a, arm), (r, rate), seed in product(enumerate(self.arms), enumerate(RATES), range(self.seeds)):
            adapter = {"method": arm, "rank": RANK, "alpha": RANK}
            made = recipe(
                "word_problems", steps=STEPS, tokens=512, held=20, seed=seed, adapter=adapter,
                optimizer={"method": "adamw", "lr": rate},
            )  # fmt: skip
            trial = bench.trial(arm, made)
            trial.advance()
            loss[a, r, seed] = np.mean(trial.losses[-LAST:])
        apart = loss[0] - loss[1]
        values = {c.quantity: row.tolist() for c, row in zip(self.criteria, apart, strict=False)}
        values[self.criteria[3].quantity] = self._errors(bench)
        return Findings(values, {arm: dict(zip(map(str, RATES), loss[a].mean(1).tolist(), strict=True)) for a, arm in enumerate(self.arms)})  # fmt: skip

    def _errors(self, bench: Bench) -> list[float]:
        """log (error of QPiSSA / error of QLoRA) of every matrix."""
        trial = bench.trial("lora", recipe("word_problems", steps=1, held=20))
        found = []
        for name, p in trial.policy.model.named_parameters():
            if p.ndim == 2 and "layers" in name and not p.requires_grad:
                weight = p.detach().float()
                u, s, v = torch.linalg.svd(weight, full_matrices=False)
                principal = (u[:, :RANK] * s[:RANK]) @ v[:RANK]
                ours = weight - principal - _stored(weight - principal)
                found.append(math.log(float(torch.linalg.matrix_norm(ours, "nuc") / torch.linalg.matrix_norm(weight - _stored(weight), "nuc"))))  # fmt: skip
        return found


def _stored(weight: Tensor) -> Tensor:
    return dequantize(quantize(weight, nf4()), nf4())
