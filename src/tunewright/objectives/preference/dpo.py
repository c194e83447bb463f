"""Direct preference optimisation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from tunewright.catalog import Paper, option
from tunewright.objectives.preference._pairs import Pairs, Side


class DPO(Pairs):
    """Makes the better answer likelier than the worse one, each measured against the reference model.

    r(y) = beta * (log p(y|x) - log p_ref(y|x)), log p summed over the answer's weighted tokens;
    loss = mean over pairs of -log sigmoid(r(better) - r(worse)). At the reference every pair costs log 2.

    When to use: pairs of answers by preference, close to what the model itself would say. When not: a model that does
    not follow instructions yet (tune it on the better answers first), or judgements of single answers (`kto`).
    """

    name: ClassVar[str] = "dpo"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model", arxiv="2305.18290"
        ),
    )

    beta: float = option(0.1, "How strongly the policy is held to the reference.", changes="loss", to=0.5, gt=0)

    def reward(self, side: Side) -> Tensor:
        return self.beta * side.gain

    def pair_loss(self, margin: Tensor, better: Side) -> Tensor:
        return -F.logsigmoid(margin)
