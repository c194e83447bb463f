"""The loss weights that an order has for each point of the run."""

from __future__ import annotations

from tunewright.data.batches import Batch
from tunewright.data.order.base import Order
from tunewright.hooks import Hook
from tunewright.train.loop import Loop


class Weighted(Hook):
    """Gives every micro-batch the weights that the order has for it at this point of the run."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def on_batch(self, loop: Loop, batch: Batch) -> Batch:
        return self.order.weighted(batch, loop.state.step / loop.total)
