"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from tunewright.catalog import option
from tunewright.optimize.optimizers.base import Optimizer


class SGD(Optimizer):
    """Steps against the gradient, with momentum: b = momentum b + g; p -= lr b.

    With `nesterov` the step is momentum b + g. Weight decay is added to the gradient (decay p). No state without
    momentum, one tensor per parameter with it.
    """

    name: ClassVar[str] = "sgd"

    momentum: float = option(0.0, "Decay of the accumulated gradient.", changes="loss", to=0.9, ge=0, lt=1)
    nesterov: bool = option(
        False, "Look ahead along the momentum.", changes="loss", to=True, given={"optimizer.momentum": 0.9}
    )

    @property
    def traits(self) -> frozenset[str]:
        return frozenset() if self.momentum else frozenset({"sgd"})

    def over(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0)
