"""The Order protocol: in which order, how often and with which weight rows are drawn."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Method
from tunewright.data.batches import Batch, Plan
from tunewright.data.table import Table
from tunewright.hooks import Hook


class Order(Method):
    """A specification of what replaces the plain shuffle.

    `plan` and `weighted` are functions of their arguments alone: any step can be computed at any time, which resuming
    needs.
    """

    kind: ClassVar[str] = "order"

    def plan(self, usual: Plan, table: Table) -> Plan:
        """The plan to train by instead of `usual` (the same steps and tokens); units of `table` are what it draws."""
        return usual

    def weighted(self, batch: Batch, progress: float) -> Batch:
        """The micro-batch with the loss weights it has at `progress` (0 at the first step, 1 after the last)."""
        return batch

    def hook(self) -> Hook | None:
        """What acts at moments of the loop, after `weighted`: weights that depend on the whole step or on the model."""
        return None
