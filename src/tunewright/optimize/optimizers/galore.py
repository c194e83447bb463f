"""GaLore: gradient low-rank projection."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Paper
from tunewright.optimize.optimizers._projected import Projected


class GaLore(Projected):
    """Keeps Adam's moments for a low-rank projection of each matrix's gradient, renewed now and then.

    P = leading singular vectors of G every `gap` steps; R = G P^T; U = Adam(R); W -= lr (scale U P + decay W). State
    of a matrix [m, n], m >= n: r (2 m + n) numbers instead of 2 m n. Embeddings, head, norms and biases have AdamW.

    When to use: full tuning where optimizer state does not fit. When not: under a low-rank adapter, whose matrices are
    thin already.
    """

    name: ClassVar[str] = "galore"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", arxiv="2403.03507"),
    )
