"""LISA: a few random blocks train at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.optimize.layers._drawn import Drawn, Floats

if TYPE_CHECKING:
    from tunewright.train.loop import Loop


class Lisa(Drawn):
    """Trains embeddings, head and norms outside the blocks always, and 2 random blocks at a time, drawn anew every 20 steps.

    Each block trains with probability blocks / number of blocks. Gradients and optimizer state exist for what trains
    alone: with AdamW 2 x (parameters outside the blocks + drawn blocks) numbers of state. The backward pass still goes
    down to the embeddings. A redrawn block begins with fresh state unless `keep_state`.

    When to use: full tuning does not fit, and an adapter learns too little. When not: a model whose embeddings are
    most of its parameters, which all train here.
    """

    name: ClassVar[str] = "lisa"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LISA: Layerwise Importance Sampling for Memory-Efficient Large Language Model Fine-Tuning",
            arxiv="2403.17919",
            card=93,
        ),
    )

    def probabilities(self, loop: Loop, blocks: list[str]) -> Floats:
        return np.full(len(blocks), 1 / len(blocks))
