"""What a step adds up over its micro-batches and all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from tunewright.data.batches import Batch
from tunewright.objectives.base import Loss


class Sums:
    """Totals of a step in one vector, so that one exchange adds them up: loss, weight, tokens, requests to stop, then
    per source loss and weight, then the objective's parts."""

    def __init__(self, sources: int, device: torch.device) -> None:
        self.sources, self.names = sources, list[str]()
        self.values = torch.zeros(4 + 2 * sources, dtype=torch.float32, device=device)

    def add(self, loss: Loss, batch: Batch) -> None:
        """Adds a micro-batch."""
        total, weight = loss.per_sequence[0].detach(), loss.per_sequence[1]
        if not self.names and loss.parts:
            self.names = sorted(loss.parts)
            self.values = torch.cat([self.values, self.values.new_zeros(len(self.names))])
        self.values[0] += loss.total.detach()
        self.values[1] += loss.weight
        self.values[2] += batch.tokens
        source = batch.columns["source"]
        self.values[4 : 4 + self.sources].index_add_(0, source, total)
        self.values[4 + self.sources : 4 + 2 * self.sources].index_add_(0, source, weight)
        for index, name in enumerate(self.names):
            self.values[4 + 2 * self.sources + index] += loss.parts[name].detach()

    @property
    def weight(self) -> Tensor:
        """The step's total weight."""
        return self.values[1]

    @property
    def loss(self) -> Tensor:
        """The step's weighted mean loss."""
        return self.values[0] / self.weight.clamp(min=1e-12)

    @property
    def tokens(self) -> int:
        """The step's tokens without padding."""
        return int(self.values[2].item())

    @property
    def stop_asked(self) -> bool:
        """Whether any process was asked to stop."""
        return bool(self.values[3].item() > 0)

    def by_source(self) -> dict[int, float]:
        """Weighted mean loss of every source that took part."""
        total, weight = self.values[4:].split(self.sources)[:2]
        return {int(s): (total[s] / weight[s]).item() for s in torch.nonzero(weight)[:, 0]}

    def parts(self) -> dict[str, float]:
        """The objective's further sums, averaged like the loss."""
        found = self.values[4 + 2 * self.sources :]
        return {name: (value / self.weight).item() for name, value in zip(self.names, found, strict=True)}
