"""SimPO: its formula and TRL's numbers."""

from types import SimpleNamespace

import pytest
import torch

from tunewright.objectives import SimPO
from tunewright.objectives.preference._pairs import Side
from tunewright.testing.objectives import assert_equals_literal


def formula(better, worse):
    margin = 2 * better.logp / better.weight - 2 * worse.logp / worse.weight - 1
    return -(1 / (1 + (-margin).exp())).log(), 1.0


def test_equals_its_formula():
    assert_equals_literal(SimPO(), formula)


def test_equals_trl():
    pytest.importorskip("trl")
    from trl.experimental.cpo import CPOTrainer

    better, worse = torch.tensor([-1.0, -0.2, -3.0]), torch.tensor([-2.0, -0.1, -2.9])
    settings = {"alpha": 0.0, "beta": 1.5, "loss_type": "simpo", "simpo_gamma": 0.7, "label_smoothing": 0.0}
    made = SimpleNamespace(**settings, accelerator=SimpleNamespace(device="cpu"))
    theirs, *_ = CPOTrainer.cpo_loss(made, better, worse)
    method = SimPO(beta=1.5, gamma=0.7)
    sides = [Side(3 * mean, torch.full((3,), 3.0), {}, {}) for mean in (better, worse)]
    ours = method.pair_loss(method.reward(sides[0]) - method.reward(sides[1]), sides[0])
    assert torch.allclose(ours, theirs, rtol=1e-6)


def test_needs_no_reference():
    assert SimPO().needs == {"pairs"}
