"""Natural GaLore: a natural-gradient step in the low-rank subspace."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tunewright.catalog import Paper, option
from tunewright.optimize.optimizers._projected import Projected, ProjectedAdam, State


class NaturalGaLore(Projected):
    """GaLore with the low-rank gradient multiplied by the inverse of a Fisher matrix of the last few of them.

    g = vec(R), G = the last `history` of them as columns, g last; F = lambda I + G G^T; n = F^-1 g, computed as
    G (lambda I + G^T G)^-1 e_last by Cholesky (the paper's Woodbury form cancels in float32); Adam follows n. The
    history is cleared at a new basis, in which earlier gradients mean nothing. Further state: history x r m numbers.

    Where |g|^2 is far above lambda, n is about the part of g orthogonal to the history; far below, this is GaLore. So
    `relative` damping, lambda = damping x mean |g|^2 of the history, with damping about 1, is the safer choice.

    When to use: as `galore`, where short runs should get further. When not: memory for the history is missing.
    """

    name: ClassVar[str] = "natural_galore"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Natural GaLore: Accelerating GaLore for memory-efficient LLM Training and Fine-tuning",
            arxiv="2410.16029",
            card=148,
        ),
    )

    history: int = option(20, "Gradients in the Fisher matrix, the present one included.", changes="bytes", to=2, ge=1)
    damping: float = option(1e-3, "Lambda, absolute or relative.", changes="loss", to=1.0, gt=0)
    damping_mode: Literal["absolute", "relative"] = option(
        "absolute", "Lambda itself (the paper's), or a factor on the mean squared norm of the history.",
        changes="loss", to="relative",
    )  # fmt: skip

    def walking(self, groups: list[dict[str, Any]], projected: Collection[nn.Parameter]) -> ProjectedAdam:
        return _Natural(groups, projected, self)


class _Natural(ProjectedAdam):
    method: NaturalGaLore

    def keep(self, basis: Tensor, state: State) -> None:
        super().keep(basis, state)
        state.pop("history", None)

    def direction(self, low: Tensor, state: State) -> Tensor:
        kept = state["history"][-self.method.history + 1 :] if "history" in state and self.method.history > 1 else None
        rows = low.flatten()[None]
        state["history"] = rows.clone() if kept is None else torch.cat([kept, rows])
        damping = self.method.damping
        if self.method.damping_mode == "relative":
            damping *= float(state["history"].square().sum(1).mean())
        return natural(state["history"], damping).view_as(low)


def natural(history: Tensor, damping: float) -> Tensor:
    """(damping I + G G^T)^-1 g for the gradients [s, k] in the rows of `history`, g the last; float32 [k].

    The damping of the small system is doubled until it is numerically positive definite.
    """
    products = history @ history.T
    last = torch.zeros(len(history), 1, dtype=history.dtype, device=history.device)
    last[-1] = 1.0
    identity = torch.eye(len(history), dtype=history.dtype, device=history.device)
    least = torch.finfo(history.dtype).eps * float(products.diagonal().max())
    damping = max(damping, torch.finfo(history.dtype).tiny)
    while True:
        factor, failed = torch.linalg.cholesky_ex(products + damping * identity)
        if not failed:
            return (history.T @ torch.cholesky_solve(last, factor))[:, 0]
        damping = max(2 * damping, least)
