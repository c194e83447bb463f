"""What every regularizer promises."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewright import catalog
from tunewright.regularize.base import Regularizer
from tunewright.testing.models import tiny
from tunewright.testing.optimizers import assert_same_place
from tunewright.testing.runs import bits, differing_bits, differs, disturb, logits_of, tiny_loop
from tunewright.testing.tables import random_table
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Loop, Settings

TABLE = random_table()


class RegularizerContract:
    """Tests of one regularizer; a subclass gives the fixture `method`."""

    def test_it_changes_what_is_learned(self, method: Regularizer) -> None:
        plain, held = _loop(None), _loop(method)
        plain.run()
        held.run()
        assert differs(_vector(plain), _vector(held)) > 1e-6

    def test_evaluation_knows_nothing_of_it(self, method: Regularizer) -> None:
        loop = _loop(method)
        loop.advance(3)
        loop.policy.eval()
        plain = _loop(None)
        plain.attached.load_state(loop.attached.state())
        plain.policy.eval()
        for one, other in zip(logits_of(loop.policy, TABLE), logits_of(plain.policy, TABLE), strict=True):
            assert torch.equal(one, other)

    def test_micro_batches_change_nothing(self, method: Regularizer) -> None:
        found = []
        for settings in (Settings(), Settings(micro_batch_tokens=16), Settings(layout="packed", micro_batch_tokens=40)):
            loop = _loop(method, settings=settings)
            loop.run()
            found.append(_vector(loop))
        begun = _vector(_loop(method))
        apart = [differs(found[0] - begun, other - begun) for other in found[1:]]
        assert max(apart) <= 1e-4, apart

    def test_the_same_twice(self, method: Regularizer) -> None:
        one, other = _loop(method), _loop(method)
        one.run()
        other.run()
        assert torch.equal(_vector(one), _vector(other))

    def test_going_on_from_a_checkpoint_equals_not_stopping(self, method: Regularizer) -> None:
        whole, stopped, resumed = (_loop(method) for _ in range(3))
        whole.advance(5)
        stopped.advance(3)
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder) / "step", *pack(stopped))
            unpack(resumed, Path(folder) / "step")
        resumed.advance(2)
        assert_same_place(whole, resumed)

    def test_the_model_is_left_as_it_was(self, method: Regularizer) -> None:
        model = tiny()
        before = bits(model)
        loop = _loop(method, model)
        loop.run()
        loop.attached.detach()
        assert not differing_bits(before, bits(model))
        assert not any(module._forward_hooks for module in model.modules())


def _loop(method: Regularizer | None, model: Any = None, settings: Settings | None = None) -> Loop:
    """Six steps of plain gradient descent, so that rounding stays small, on an adapter that has moved."""
    parts: dict[str, Any] = {"optimizer": catalog.find("optimizer", "sgd")(lr=0.05)}  # type: ignore[call-arg]
    settings = replace(settings or Settings(), clip=None)
    if method is not None:
        parts["regularizer"] = method
    loop = tiny_loop(parts, model=model, table=TABLE, steps=6, settings=settings)
    disturb(loop.attached)
    return loop


def _vector(loop: Loop) -> Tensor:
    return torch.cat([p.detach().flatten() for p in loop.attached.trained().values()])
