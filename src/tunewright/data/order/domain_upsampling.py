"""Sources drawn more often at the end of training."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tunewright.catalog import Paper, option
from tunewright.data.batches import Indices, Plan, Share
from tunewright.data.order.base import Order
from tunewright.data.table import Table
from tunewright.errors import BadInput

Floats = NDArray[np.float64]


class DomainUpsampling(Order):
    """Draws sources by other shares in the last part of the run, with a hard switch.

    With p0 the shares of the recipe, in rows: p0 until step T - round(f T), then p1_g = p0_g u_g / sum p0 u, u the
    `factors`. The number of steps and their tokens stay, and so does the learning rate's course. Steps before the
    switch are those of the recipe without this; from it on each source begins a new pass over its rows.

    When to use: a small set of rows on what counts, beside much general text; f of 0.1 to 0.2. When not: a single
    source, or a small set that would be seen more than some four times at the end.
    """

    name: ClassVar[str] = "domain_upsampling"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Does your data spark joy? Performance gains from domain upsampling at the end of training",
            arxiv="2406.03476",
            card=211,
        ),
    )

    share: float = option(
        0.2, "Share f of the steps, at the end, with other shares.", changes="loss", to=0.6, ge=0, le=1
    )
    factors: tuple[Annotated[float, Field(ge=0)], ...] = option(
        (), "Factor on the share of each source, in their order; 0 leaves one out, none gives all sources equal shares.",
        changes="loss", to=[0.0, 1.0],
    )  # fmt: skip

    def plan(self, usual: Plan, table: Table) -> Plan:
        window = round(self.share * usual.total)
        if not window:
            return usual
        count = len(usual.shares)
        if self.factors and (len(self.factors) != count or not any(self.factors)):
            raise BadInput(
                "a factor per source is needed, one of them above 0",
                field="data.order.factors",
                found=list(self.factors),
                expected=f"{count} numbers",
            )
        weights = self.weights(usual)
        drawn = np.where(np.isin(usual.sources, np.flatnonzero(weights)), usual.sources, -1)
        later = replace(
            usual,
            sources=drawn,
            shares=tuple(Share(weight=float(weight)) for weight in weights),
            seed=usual.seed + 1,
            epochs=None,
            tokens=None,
            steps=window,
        )
        given = {field.name: getattr(usual, field.name) for field in fields(Plan)}
        return Switched(**{**given, "epochs": None, "tokens": None, "steps": usual.total}, usual=usual, later=later)

    def weights(self, usual: Plan) -> Floats:
        """The shares at the end, in rows, summing to 1."""
        if not self.factors:
            return np.full(len(usual.shares), 1 / len(usual.shares))
        found = shares_of(usual) * np.asarray(self.factors)
        scaled: Floats = found / found.sum()
        return scaled


@dataclass(frozen=True, kw_only=True)
class Switched(Plan):
    """`usual`, and `later` in its place for the last `later.total` steps."""

    usual: Plan
    later: Plan

    def step(self, step: int) -> Indices:
        switch = self.total - self.later.total
        return self.usual.step(step) if step < switch else self.later.step(step - switch)


def shares_of(plan: Plan) -> Floats:
    """The share of each source in the rows of an epoch."""
    sizes = np.bincount(plan.sources[plan.sources >= 0], minlength=len(plan.shares)).astype(float)
    total = sum(share.weight if share.weight is not None else 1.0 for share in plan.shares)
    rows = np.asarray([
        len(plan.lengths) * share.weight / total if share.weight is not None else size * share.passes
        for size, share in zip(sizes, plan.shares, strict=True)
    ])  # fmt: skip
    shares: Floats = rows / rows.sum()
    return shares
