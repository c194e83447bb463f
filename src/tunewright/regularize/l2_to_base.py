"""Squared distance from the pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.shards import is_sharded
from tunewright.regularize._layers import LowRankPair, pairs, squared_rows
from tunewright.regularize.base import Regularizer

if TYPE_CHECKING:
    from tunewright.train.loop import Loop


class L2ToBase(Regularizer):
    """Pulls the weights back to those that the run began with.

    loss + strength/2 sum over weights (w - w_0)^2. For a low-rank layer that is ||scale B A||_F^2 =
    scale^2 tr((B^T B)(A A^T)), which costs rank^2 and not the size of the weight; its gradient reaches A and B.

    When to use: few rows and a model whose other abilities should stay. When not: with a decay of the optimizer that is
    meant to pull to 0. Not beside adapters or quantizers whose update does not begin at the model's own weights.
    """

    name: ClassVar[str] = "l2_to_base"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Explicit Inductive Bias for Transfer Learning with Convolutional Networks", arxiv="1802.01483"),
    )

    strength: float = option(0.01, "Weight of the squared distance.", changes="gradient", to=1.0, ge=0)

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        return {"adapter": frozenset({"anchored"}), "quantizer": frozenset({"plain"})}

    def hook(self) -> Hook:
        return _Pull(self.strength)


class _Pull(Hook):
    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.layers: dict[str, LowRankPair] | None = None
        self.whole: list[tuple[nn.Parameter, Tensor]] = []

    def penalty(self, loop: Loop) -> Tensor:
        """strength/2 times the squared distance of all weights."""
        if self.layers is None:
            self._begin(loop)
        assert self.layers is not None
        terms = [layer.scale**2 * squared_rows(layer.up, layer.down).sum() for layer in self.layers.values()]
        terms += [((parameter - base.to(parameter.dtype)) ** 2).sum() for parameter, base in self.whole]
        return self.strength / 2 * torch.stack(terms).sum()

    def _begin(self, loop: Loop) -> None:
        self.layers = pairs(loop.policy)
        inside = {id(p) for layer in self.layers.values() for p in (layer.down, layer.up)}
        others = {name: p for name, p in loop.attached.trained().items() if id(p) not in inside}
        where = {name: p.data_ptr() for name, p in others.items()}
        with loop.policy.start():
            foreign = [n for n, p in others.items() if not is_sharded(p) and p.data_ptr() == where[n]]
            # The adapter keeps the originals; only a sharded parameter is written in place.
            self.whole = [(p, p.detach().clone() if is_sharded(p) else p.detach()) for p in others.values()]
        if foreign:
            raise BadInput(
                f"the distance to the base is not known: '{foreign[0]}' is no weight of the model itself",
                field="regularize",
                hint="Use the adapter lora or full, or leave l2_to_base out.",
            )
