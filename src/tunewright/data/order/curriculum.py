"""Easy rows count more at first."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from tunewright.catalog import Paper, option
from tunewright.data.batches import Batch
from tunewright.data.order.base import Order


class Curriculum(Order):
    """Weighs every row by its ease at first, and fades to equal weights.

    w = (ease + 1e-8) (1 - p / m) + p / m with p the progress of the run and m = `end`; exactly 1 from m on. Ease in
    [0, 1] is a named column of the rows; with `reversed` it is 1 - ease, the control. Since losses are divided by
    their weights, early steps are led by easy rows, at the same length.

    The paper ranks documents, with ease from a first search, and counts epochs; here progress is that of the run.

    When to use: an estimate of difficulty exists and some rows are noisy or far too hard. When not: all rows are about
    as hard.
    """

    name: ClassVar[str] = "curriculum"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Training Curricula for Open Domain Answer Re-Ranking", arxiv="2004.14269", card=249),
    )

    column: str = option("ease", "The column of the rows that holds the ease, 0 to 1.", changes="loss", to="source")
    end: float = option(0.5, "Share of the run after which all rows count alike.", changes="loss", to=1.0, ge=0, le=1)
    reversed: bool = option(False, "Begin with the hard rows.", changes="loss", to=True)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({self.column})

    def weighted(self, batch: Batch, progress: float) -> Batch:
        if progress >= self.end:
            return batch
        done = progress / self.end
        ease = batch.columns[self.column].float().clamp(0, 1)
        if self.reversed:
            ease = 1 - ease
        factors = (ease + 1e-8) * (1 - done) + done
        # Padding belongs to no sequence; its weight is 0 whatever it is multiplied by.
        return replace(batch, weights=batch.weights * factors[batch.sequence.clamp(min=0)])
