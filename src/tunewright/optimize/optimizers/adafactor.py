"""Adafactor: adaptive steps with sublinear memory."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from tunewright.catalog import Paper, option
from tunewright.optimize.optimizers.base import Optimizer


class Adafactor(Optimizer):
    """Adam's scaling with the mean square of a matrix's gradient kept as a row vector and a column vector.

    V ~ R C / mean(R); the update g / sqrt(V) is clipped to root mean square `clip_threshold`, and the step is
    lr times max(eps, rms(p)) times it. State of a matrix [n, m]: n + m numbers.
    """

    name: ClassVar[str] = "adafactor"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", arxiv="1804.04235"),
    )

    beta2_decay: float = option(-0.8, "Exponent of the mean square's decay 1 - t^x.", changes="loss", to=-0.3, lt=0)
    clip_threshold: float = option(
        1.0, "Largest root mean square of an update before scaling.", changes="loss", to=4.0, ge=1
    )
    eps: float = option(1e-3, "Smallest scale of a parameter.", changes="loss", to=10.0, gt=0)

    def over(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adafactor(
            groups, beta2_decay=self.beta2_decay, eps=(None, self.eps), d=self.clip_threshold, foreach=False
        )
