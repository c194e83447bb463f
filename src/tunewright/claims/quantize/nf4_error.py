"""NormalFloat against evenly spaced four bits (card 85)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from tunewright.catalog import Paper
from tunewright.claims.base import Bench, Claim, Criterion, Findings, Trial
from tunewright.evaluate.base import Scores
from tunewright.evaluate.tasks.retention import Retention
from tunewright.models.quantize._blockwise import dequantize, nf4, quantize, uniform4


class NF4Error(Claim):
    """Four-bit NormalFloat loses less than four-bit integers.

    Every matrix of the embedded model's blocks is quantised in blocks of 64 weights with the largest magnitude as
    scale, by NF4 or by 15 evenly spaced values, and put back as float32; nothing is trained. The error of a matrix is
    its mean squared error; the loss is that on 400 retention texts. The paper's other claim, that adapters make up for
    the bits, is not tested here.
    """

    name: ClassVar[str] = "nf4_error"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="QLoRA: Efficient Finetuning of Quantized LLMs", arxiv="2305.14314", card=85),
    )
    sentence: ClassVar[str] = (
        "Weights quantised to NF4 have a smaller squared error than weights quantised to evenly spaced 4-bit values, and "
        "the model's loss on known text rises less."
    )
    arms: ClassVar = {"nf4": "4-bit NormalFloat, blocks of 64", "uniform": "symmetric 4-bit integers, blocks of 64"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("log ratio of squared errors of a matrix, NF4 to uniform", "below", -0.05, "log ratio"),
        Criterion("loss of a text, NF4 minus uniform", "below", -0.002, "nats per token"),
    )
    seeds: ClassVar[int] = 1
    budget: ClassVar[str] = "no training; every matrix of 8 blocks, 400 texts"

    def findings(self, bench: Bench) -> Findings:
        """Errors per matrix and losses per text."""
        trial = bench.trial("nf4", RECIPE)
        with trial.base():
            exact = _loss(trial)
            matrices = {
                name: p for name, p in trial.policy.model.named_parameters()
                if p.ndim == 2 and "layers" in name and not p.requires_grad
            }  # fmt: skip
            kept = {name: p.detach().clone() for name, p in matrices.items()}
            errors, losses = [], []
            for table in (nf4(), uniform4()):
                with torch.no_grad():
                    for name, p in matrices.items():
                        p.copy_(dequantize(quantize(kept[name], table), table))
                errors.append([(matrices[name] - kept[name]).pow(2).mean().item() for name in matrices])
                losses.append(_loss(trial))
            with torch.no_grad():
                for name, p in matrices.items():
                    p.copy_(kept[name])
        values = {
            self.criteria[0].quantity: [math.log(a / b) for a, b in zip(*errors, strict=True)],
            self.criteria[1].quantity: (losses[0].values - losses[1].values).tolist(),
        }
        names = ("float32", "nf4", "uniform")
        shown = {name: float(one.values.mean()) for name, one in zip(names, (exact, *losses), strict=True)}
        return Findings(values, {"mean loss per text": shown, "matrices": len(matrices)})


RECIPE = {
    "model": "nano",
    "data": {
        "train": {"path": "nano:sentiment/train", "limit": 20},
        "eval": {"path": "nano:sentiment/test", "limit": 20},
    },
    "train": {"steps": 1, "precision": "fp32", "rehearsal": False},
    "evaluate": [],
}


def _loss(trial: Trial) -> Scores:
    return Retention(texts=400).score(trial.subject())
