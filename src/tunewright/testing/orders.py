"""What every order promises."""

from __future__ import annotations

import numpy as np
import torch

from tunewright.data.batches import collate
from tunewright.data.order.base import Order
from tunewright.testing.tables import plan_of, random_table


class OrderContract:
    """Tests of one order; a subclass gives the fixture `method`."""

    def test_the_run_stays_as_long(self, method: Order) -> None:
        table = random_table()
        usual = plan_of(table, steps=12)
        plan = method.plan(usual, table)
        assert plan.total == usual.total
        drawn = np.concatenate([plan.step(step) for step in range(plan.total)])
        assert set(drawn.tolist()) <= set(range(len(table)))
        wanted = usual.tokens_per_step
        sums = [int(table.lengths[plan.step(step)].sum()) for step in range(plan.total)]
        assert all(0 < total < wanted + int(table.lengths.max()) for total in sums), sums

    def test_any_step_can_be_computed_at_any_time(self, method: Order) -> None:
        table = random_table()
        one, other = (method.plan(plan_of(table, steps=12), table) for _ in range(2))
        forward = [one.step(step).tolist() for step in range(12)]
        backward = [other.step(step).tolist() for step in reversed(range(12))]
        assert forward == backward[::-1]

    def test_weights_are_a_function_of_row_and_progress(self, method: Order) -> None:
        table = random_table(columns=method.columns)
        rows = list(range(len(table)))
        for progress in (0.0, 0.3, 1.0):
            together = method.weighted(collate(table, rows), progress)
            packed = method.weighted(collate(table, rows, packed=True), progress)
            for row in rows:
                alone = method.weighted(collate(table, [row]), progress).weights[0]
                assert torch.equal(together.weights[row, : len(alone)], alone)
                assert torch.equal(packed.weights[packed.sequence == row], alone)
            assert (together.weights >= 0).all() and torch.isfinite(together.weights).all()
            assert (together.weights[together.sequence < 0] == 0).all()
