"""ORPO: its formula, TRL's numbers, its odds near certainty."""

from types import SimpleNamespace

import pytest
import torch

from tunewright.objectives import ORPO
from tunewright.objectives.preference._pairs import Side
from tunewright.testing.objectives import assert_equals_literal


def formula(better, worse):
    means = [one.logp / one.weight for one in (better, worse)]
    odds = [mean.exp() / (1 - mean.exp()) for mean in means]
    ratio = odds[0] / odds[1]
    return -means[0] - 0.1 * (ratio / (1 + ratio)).log(), 1.0


def test_equals_its_formula():
    assert_equals_literal(ORPO(), formula)


def side(means):
    return Side(4 * means, torch.full_like(means, 4.0), {}, {})


def test_odds_ratio_equals_trl():
    pytest.importorskip("trl")
    from trl.experimental.orpo import ORPOTrainer

    better, worse = torch.tensor([-1.0, -0.2, -3.0, -1e-4]), torch.tensor([-2.0, -0.1, -2.9, -0.5])
    made = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    (
        theirs,
        *_,
    ) = ORPOTrainer.odds_ratio_loss(made, better, worse)
    method = ORPO(weight=0.1)
    ours = method.pair_loss(method.reward(side(better)) - method.reward(side(worse)), side(better)) + better
    assert torch.allclose(ours, -theirs, atol=1e-6)


def test_log_odds_keep_their_digits():
    means = torch.tensor([-1e-6, -1e-3, -0.5, -0.693, -0.694, -5.0, -80.0])
    wide = means.double()
    wanted = wide - torch.log(-torch.expm1(wide))
    assert torch.allclose(ORPO().reward(side(means)).double(), wanted, rtol=1e-6, atol=1e-7)


def test_an_answer_that_is_certain_has_a_finite_loss_and_gradient():
    means = torch.zeros(1, requires_grad=True)
    loss = ORPO().pair_loss(ORPO().reward(side(means)) - ORPO().reward(side(torch.tensor([-1.0]))), side(means))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(means.grad).all()
