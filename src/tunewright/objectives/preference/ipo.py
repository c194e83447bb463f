"""Identity preference optimisation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tunewright.catalog import Paper, option
from tunewright.objectives.preference._pairs import Pairs, Side


class IPO(Pairs):
    """Draws the log-ratio margin of a pair to a fixed target instead of widening it without end.

    h = gain(better) - gain(worse), gain(y) = log p(y|x) - log p_ref(y|x), per token (`per_token`) or summed;
    loss = mean over pairs of (h - 1/(2 beta))^2. The paper's formula sums; its authors divide by the number of tokens,
    and so do common implementations, so that one beta suits all lengths.

    When to use: preferences that are nearly certain, where DPO would drive the margin up for ever. When not: noisy
    pairs of very different quality, which all get the same target.
    """

    name: ClassVar[str] = "ipo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="A General Theoretical Paradigm to Understand Learning from Human Preferences", arxiv="2310.12036"),
    )

    beta: float = option(0.1, "The target margin is 1/(2 beta).", changes="loss", to=0.5, gt=0)
    per_token: bool = option(
        True, "Mean log-ratio of an answer's tokens instead of their sum.", changes="loss", to=False
    )

    def reward(self, side: Side) -> Tensor:
        return side.gain / side.weight if self.per_token else side.gain

    def pair_loss(self, margin: Tensor, better: Side) -> Tensor:
        return (margin - 1 / (2 * self.beta)) ** 2
