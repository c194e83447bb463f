"""How much each weight of a model matters to its loss: the diagonal of the empirical Fisher information."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from tunewright.data.batches import collate
from tunewright.data.table import Table
from tunewright.models.layers import ALL_LINEAR, targets
from tunewright.models.quantize._approximation import Pair, factors

LEAST = 1e-8
"""Smallest mean of a row or column, as a share of the mean over all."""


class Importance:
    """What a matrix's errors weigh: F float32 [out, in], or all the same without one.

    A pair of low rank is the best one under d_r d_c^T, d_r and d_c the roots of F's means over rows and columns.
    """

    def __init__(self, fisher: Tensor | None = None) -> None:
        self.root: Tensor | None = None
        # A layer that no gradient reaches weighs the same everywhere.
        if fisher is None or not fisher.any():
            return
        self.root = fisher.sqrt()
        floor = LEAST * fisher.mean()
        self.rows, self.columns = (fisher.mean(axis).clamp(min=floor).sqrt() for axis in (1, 0))

    def pair(self, matrix: Tensor, rank: int) -> Pair:
        """B [out, rank] and A [rank, in] whose product is nearest to the matrix."""
        if self.root is None:
            return factors(matrix, rank)
        up, down = factors(self.rows[:, None] * matrix * self.columns, rank)
        return up / self.rows[:, None], down / self.columns

    def norm(self, error: Tensor) -> float:
        """||sqrt(F) * error||."""
        return float((error if self.root is None else self.root * error).norm())


def fishers(model: Any, table: Table, most: int) -> dict[str, Tensor]:
    """Linear layer -> F float32 [out, in], the sum over `most` sequences, drawn from all, of the squared gradient of
    the mean loss of one of them.

    One float32 per weight is held until the layers are quantized, and one gradient at a time beside it.
    """
    layers = targets(model, ALL_LINEAR)
    found = {name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in layers.items()}  # type: ignore[arg-type]
    device = next(model.parameters()).device
    with _gradients_of(model, layers, found):
        for index in np.sort(np.random.default_rng(0).permutation(len(table))[:most]):
            batch = collate(table, [index]).to(device)
            rows, cols = batch.kept
            weights = batch.weights[rows, cols]
            if len(rows):
                logits = model(input_ids=batch.ids, use_cache=False).logits[rows, cols - 1].float()
                losses = F.cross_entropy(logits, batch.ids[rows, cols], reduction="none")
                ((losses * weights).sum() / weights.sum()).backward()
    return {name: sums.T if isinstance(layers[name], Conv1D) else sums for name, sums in found.items()}


@contextmanager
def _gradients_of(model: Any, layers: dict[str, nn.Module], found: dict[str, Tensor]) -> Iterator[None]:
    """Every gradient to a layer's weight is squared and added to `found`, and freed at once."""

    def adding(sums: Tensor) -> Callable[[Tensor], None]:
        def add(weight: Tensor) -> None:
            gradient = weight.grad.float()  # type: ignore[union-attr]
            sums.addcmul_(gradient, gradient)
            weight.grad = None

        return add

    training, wanted = model.training, {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(False).eval()
    handles = []
    for name, layer in layers.items():
        layer.weight.requires_grad_(True)
        handles.append(layer.weight.register_post_accumulate_grad_hook(adding(found[name])))  # type: ignore[operator]
    try:
        with torch.enable_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for name, p in model.named_parameters():
            p.requires_grad_(wanted[name])
        model.train(training)
