"""What every layer policy promises."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from tunewright import catalog
from tunewright.optimize.layers.base import Layers
from tunewright.testing.models import tiny
from tunewright.testing.optimizers import assert_same_place
from tunewright.testing.runs import bits, differing_bits, tiny_loop
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Loop

EVERY = 2
BLOCKS = 6


class LayersContract:
    """Tests of one layer policy; a subclass gives the fixture `method`. Tried on six blocks, chosen every two steps."""

    def test_what_rests_keeps_its_bits_and_costs_nothing(self, method: Layers) -> None:
        loop = _loop(method)
        for _ in range(3):
            before = _values(loop)
            loop.advance(1)
            working = _working(loop)
            loop.advance(EVERY - 1)
            assert _working(loop) == working, "the set changed within an interval"
            resting = set(before) - working
            assert resting and working, f"{len(working)} of {len(before)} parameters train"
            changed = set(differing_bits(before, _values(loop)))
            assert changed == working, sorted(changed ^ working)
            for name, parameter in loop.attached.trained().items():
                if name in resting:
                    assert parameter.grad is None and not loop.optimizer.state.get(parameter), name

    def test_the_seed_alone_decides(self, method: Layers) -> None:
        runs = [_chosen(_loop(method)) for _ in range(2)]
        assert runs[0] == runs[1]

    def test_going_on_from_a_checkpoint_equals_not_stopping(self, method: Layers) -> None:
        for at in (3, 4):
            whole, stopped, resumed = (_loop(method) for _ in range(3))
            whole.advance(6)
            stopped.advance(at)
            with tempfile.TemporaryDirectory() as folder:
                write_folder(Path(folder) / "step", *pack(stopped))
                unpack(resumed, Path(folder) / "step")
            resumed.advance(6 - at)
            assert_same_place(whole, resumed)

    def test_everything_can_train_again_afterwards(self, method: Layers) -> None:
        loop = _loop(method)
        loop.run()
        assert all(p.requires_grad for p in loop.attached.trained().values())

    def test_original_weights_come_back(self, method: Layers) -> None:
        model = tiny(num_hidden_layers=BLOCKS)
        before = bits(model)
        loop = _loop(method, model)
        loop.run()
        loop.attached.detach()
        assert not differing_bits(before, bits(model))


def _loop(method: Layers, model: Any = None) -> Loop:
    if "every" in type(method).model_fields:
        method = method.model_copy(update={"every": EVERY})
    parts = {"layers": method, "adapter": catalog.find("adapter", "full")()}
    return tiny_loop(parts, model=model or tiny(num_hidden_layers=BLOCKS), steps=6)


def _values(loop: Loop) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in loop.attached.trained().items()}


def _working(loop: Loop) -> set[str]:
    return {name for name, p in loop.attached.trained().items() if p.requires_grad}


def _chosen(loop: Loop) -> list[set[str]]:
    found = []
    for _ in range(3):
        loop.advance(1)
        found.append(_working(loop))
        loop.advance(EVERY - 1)
    return found
