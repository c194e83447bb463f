"""OwLore: blocks with more outliers train more often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tunewright.catalog import Paper, option
from tunewright.data.batches import collate
from tunewright.models.layers import block_of, linear_layers
from tunewright.models.quantize._layer import QuantizedLinear
from tunewright.optimize.layers._drawn import Drawn, Floats

if TYPE_CHECKING:
    from tunewright.train.loop import Loop


class Owlore(Drawn):
    """Draws the blocks that train in proportion to the outliers among their weights times activations.

    A_ij = |W_ij| ||X_j|| for every linear layer, X_j its input feature j over the tokens of the first training rows;
    D = 100 x (entries with A_ij > threshold x mean A) / entries, counted over the block's layers; p = D / sum D,
    measured once before training. Embeddings, head and norms outside the blocks always train. If no block has an
    outlier the draw is uniform. Small models need a threshold of 3 to 5.

    The paper trains the drawn blocks with low-rank projected gradients: add `optimizer: galore` for that.

    When to use: as `lisa`, where blocks differ in outliers. When not: a model of few blocks, where probabilities
    near 0 leave blocks untrained; raise `floor`.
    """

    name: ClassVar[str] = "owlore"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="OwLore: Outlier-weighed Layerwise Sampled Low-Rank Projection for Memory-Efficient LLM Fine-tuning",
            arxiv="2405.18380",
            card=128,
        ),
    )

    blocks: int = option(5, "Blocks that train at a time.", changes="loss", to=2, given={"layers.blocks": 1}, ge=1)
    every: int = option(50, "Steps between draws.", changes="loss", to=1, given={"layers.blocks": 1}, ge=1)
    by: Literal["outliers", "reversed", "uniform"] = option(
        "outliers", "Draw by outliers, by max p - p, or all alike (then this is `lisa`).", changes="log", to="uniform",
        given={"layers.blocks": 1, "layers.threshold": 3.0},
    )  # fmt: skip
    threshold: float = option(
        13.0, "Multiple of the mean from which an entry is an outlier.", changes="log", to=3.0,
        given={"layers.blocks": 1}, gt=0,
    )  # fmt: skip
    pool: Literal["matrix", "block"] = option(
        "matrix", "The mean is of each matrix, or of the whole block.", changes="log", to="block",
        given={"layers.blocks": 1, "layers.threshold": 3.0},
    )  # fmt: skip
    sequences: int = option(
        128, "Training rows whose activations are measured.", changes="log", to=2,
        given={"layers.blocks": 1, "layers.threshold": 3.0}, ge=1,
    )  # fmt: skip
    floor: float = option(
        0.0, "Smallest probability of a block, before they are made to sum to 1.", changes="log", to=0.5,
        given={"layers.blocks": 1, "layers.threshold": 3.0}, ge=0, le=1,
    )  # fmt: skip

    def probabilities(self, loop: Loop, blocks: list[str]) -> Floats:
        even = np.full(len(blocks), 1 / len(blocks))
        if self.by == "uniform":
            return even
        found = measured(loop, self.sequences)
        ratios = np.asarray([outliers(found[block], self.threshold, self.pool) for block in blocks])
        shares = ratios / ratios.sum() if ratios.any() else even
        if self.by == "reversed":
            turned = shares.max() - shares
            shares = turned / turned.sum() if turned.any() else even
        raised = np.maximum(shares, self.floor)
        normalised: Floats = raised / raised.sum()
        return normalised


def outliers(products: Iterable[Tensor], threshold: float, pool: Literal["matrix", "block"]) -> float:
    """The percentage of entries of A (one matrix per linear layer) above `threshold` times their mean."""
    matrices = list(products)
    entries = sum(a.numel() for a in matrices)
    whole = sum(float(a.double().sum()) for a in matrices) / entries
    means = [float(a.double().mean()) if pool == "matrix" else whole for a in matrices]
    above = sum(int((a > threshold * mean).sum()) for a, mean in zip(matrices, means, strict=True))
    return 100 * above / entries


@torch.no_grad()
def measured(loop: Loop, sequences: int) -> dict[str, list[Tensor]]:
    """A of every linear layer, by block: |W| [out, in] times the norm of each input feature over all tokens."""
    layers = {name: layer for name, layer in linear_layers(loop.policy.model).items() if block_of(name)}
    squares: dict[str, Tensor] = {}
    kept: list[Tensor] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].float().reshape(-1, inputs[0].shape[-1])[kept[-1]]
            squares[name] = squares.get(name, torch.zeros_like(x[0])) + x.square().sum(0)

        return hook

    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    training = loop.policy.training
    loop.policy.eval()
    try:
        units = np.arange(min(sequences, len(loop.table) // loop.table.together))
        for group in loop.groups(units):
            batch = collate(loop.table, group, loop.settings.layout == "packed", loop.settings.pad)
            batch = batch.to(loop.world.device)
            kept.append(batch.sequence.flatten() >= 0)
            loop.policy.hidden(batch)
    finally:
        loop.policy.train(training)
        for handle in handles:
            handle.remove()
    found: dict[str, list[Tensor]] = {}
    for name, layer in layers.items():
        product = QuantizedLinear.original(layer).abs() * squares[name].sqrt()
        found.setdefault(str(block_of(name)), []).append(product)
    return found
