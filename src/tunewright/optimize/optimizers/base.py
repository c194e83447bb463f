"""The Optimizer protocol: how a gradient becomes a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from tunewright.catalog import Method, option
from tunewright.errors import BadInput
from tunewright.models.layers import matches


class Optimizer(Method):
    """A specification of a torch optimizer; `build` makes it over named parameters."""

    kind: ClassVar[str] = "optimizer"

    @property
    def traits(self) -> frozenset[str]:
        """`adam` where the state holds Adam's moments of every number as torch keeps them, `sgd` where a step is the
        gradient times the rate."""
        return frozenset()

    lr: float = option(2e-4, "Learning rate at the schedule's height.", changes="loss", to=1e-2, gt=0)
    weight_decay: float = option(
        0.0, "Weight decay of matrices, decoupled where the method says so; norms and biases (one-dimensional) have none.", changes="loss", to=1.0, ge=0
    )  # fmt: skip
    rates: dict[str, Annotated[float, Field(ge=0)]] = option(
        {}, "Factor on the learning rate of parameters that match a pattern, as {'*.up': 16}.",
        changes="loss", to={"*.up": 0.0},
    )  # fmt: skip

    def build(self, trained: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer over `trained`; every group's `lr` times the schedule's factor is the rate of a step."""
        return self.over(self.groups(trained))

    def over(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The torch optimizer over parameter groups that carry `lr` and `weight_decay`."""
        raise NotImplementedError

    def groups(self, trained: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
        """Parameter groups by (rate factor, decayed or not), in the order of the parameters.

        Raises `BadInput` when a pattern of `rates` matches no trained parameter.
        """
        for pattern in self.rates:
            if not any(matches(name, pattern) for name in trained):
                raise BadInput(
                    f"no trained parameter matches '{pattern}'",
                    field="optimizer.rates",
                    expected=f"a pattern for names such as '{next(iter(trained), '')}'",
                )
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in trained.items():
            factor = next((f for pattern, f in self.rates.items() if matches(name, pattern)), 1.0)
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.lr * factor,
                "peak_lr": self.lr * factor,
                "weight_decay": self.weight_decay if decays else 0.0,
            }
            for (factor, decays), parameters in groups.items()
        ]
