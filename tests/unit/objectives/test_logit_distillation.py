"""Logit distillation: its formula, its special cases."""

import pytest
import torch

from tunewright.objectives import SFT, LogitDistillation
from tunewright.testing.objectives import assert_equals_literal, loss_of
from tunewright.testing.runs import differs


@pytest.mark.parametrize(("direction", "heat", "share"), [("forward", 1, 0), ("forward", 3, 0.4), ("reverse", 2, 0.4)])
def test_equals_its_formula(direction, heat, share):
    def formula(seen):
        p, q = ((logits[:-1] / heat).softmax(-1) for logits in (seen.logits, seen.teacher))
        own = -seen.logits[:-1].log_softmax(-1)[torch.arange(len(p)), seen.ids[1:]]
        away = (q * (q.log() - p.log()) if direction == "forward" else p * (p.log() - q.log())).sum(-1)
        return (seen.weights[1:] * ((1 - share) * heat**2 * away + share * own)).sum(), seen.weight

    assert_equals_literal(LogitDistillation(temperature=heat, direction=direction, likelihood=share), formula)


def test_of_the_data_alone_it_is_sft():
    (one, loss), (other, same) = loss_of(LogitDistillation(likelihood=1.0)), loss_of(SFT())
    assert loss == pytest.approx(same, rel=1e-6) and differs(one, other) < 1e-6


def test_at_great_heat_it_is_half_the_squared_distance_of_centred_logits():
    def formula(seen):
        gap = seen.logits[:-1] - seen.teacher[:-1]
        gap = gap - gap.mean(-1, keepdim=True)
        return (seen.weights[1:] * (gap**2).mean(-1) / 2).sum(), seen.weight

    assert_equals_literal(LogitDistillation(temperature=300.0), formula, within=0.02)
