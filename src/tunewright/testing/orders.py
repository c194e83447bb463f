"""What every order promises."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from tunewright import catalog
from tunewright.data.batches import collate
from tunewright.data.order.base import Order
from tunewright.data.table import Table
from tunewright.testing.runs import Steps, bits, differing_bits, differs, tiny_loop
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Loop, Settings


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
        table = _table(method.columns)
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

    def test_a_step_is_the_same_however_it_is_cut(self, method: Order) -> None:
        found = []
        for micro, layout in ((32, "padded"), (10_000, "padded"), (10_000, "packed")):
            steps = Steps()
            loop = _loop(method, Settings(micro_batch_tokens=micro, layout=layout), steps)  # type: ignore[arg-type]
            loop.run()
            state = torch.cat([value.flatten() for value in loop.attached.state().values()])
            found.append((state, torch.tensor([step.loss for step in steps.done])))
        for state, losses in found[1:]:
            assert differs(found[0][0], state) < 1e-4 and differs(found[0][1], losses) < 1e-5

    def test_resuming_equals_not_stopping(self, method: Order, tmp_path: Path) -> None:
        whole, stopped, resumed = (_loop(method) for _ in range(3))
        whole.run()
        stopped.advance(4)
        tensors, described = pack(stopped)
        write_folder(tmp_path / "step", tensors, json.loads(json.dumps(described)))
        unpack(resumed, tmp_path / "step")
        resumed.run()
        assert not differing_bits(bits(whole.policy.model), bits(resumed.policy.model))


def _table(columns: Collection[str]) -> Table:
    """Random rows with the columns that are not there anyway."""
    return random_table(columns=set(columns) - set(random_table().columns))


def _loop(method: Order, settings: Settings | None = None, *hooks: Steps) -> Loop:
    table = _table(method.columns)
    parts = {"order": method, "optimizer": catalog.find("optimizer", "sgd")(lr=0.05)}  # type: ignore[call-arg]
    plan = plan_of(table, steps=8, tokens_per_step=50)
    return tiny_loop(parts, table=table, plan=plan, settings=settings, hooks=hooks)
