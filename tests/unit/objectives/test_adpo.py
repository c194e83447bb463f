"""ADPO: its formula, its special cases, its invariance."""

import math

import numpy as np
import pytest
import torch

from tunewright.errors import BadInput
from tunewright.objectives import ADPO, DPO
from tunewright.objectives.preference.adpo import listwise
from tunewright.testing.objectives import assert_equals_literal, loss_of
from tunewright.testing.runs import differs, table_for


@pytest.mark.parametrize("preference", [1.0, 0.8, None])
def test_equals_its_formula(preference):
    def formula(better, worse):
        chance = better.columns["preference"] if preference is None else preference
        scores = torch.stack([(one.logp - one.reference_logp) / 0.8 for one in (better, worse)])
        shares = scores.exp() / scores.exp().sum()
        terms = [q * (math.log(q) - p.log()) for q, p in zip((chance, 1 - chance), shares, strict=True) if q > 0]
        return sum(terms), 1.0

    assert_equals_literal(ADPO(preference=preference), formula)


def test_a_certain_preference_is_dpo():
    (one, loss), (other, same) = loss_of(ADPO(tau=1 / 0.1)), loss_of(DPO(beta=0.1))
    assert loss == pytest.approx(same, abs=1e-7) and differs(one, other) < 1e-5


def test_soft_labels_are_soft_dpo_minus_their_entropy():
    margins = torch.linspace(-3, 3, 7, dtype=torch.float64)
    scores = torch.stack([margins, torch.zeros_like(margins)], -1)
    chance = 0.8
    found = listwise(scores, torch.tensor([chance, 1 - chance], dtype=torch.float64).expand(7, 2))
    soft = -chance * torch.sigmoid(margins).log() - (1 - chance) * torch.sigmoid(-margins).log()
    entropy = -chance * math.log(chance) - (1 - chance) * math.log(1 - chance)
    assert torch.allclose(found, soft - entropy)


def groups():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(2)]


def test_at_the_anchor_the_loss_is_log_p_minus_the_entropy_of_the_target():
    target = groups()[0].softmax(-1)
    entropy = -(target * target.log()).sum(-1)
    assert torch.allclose(listwise(torch.zeros(5, 8, dtype=torch.float64), target), math.log(8) - entropy)


def test_gradient_is_p_minus_q_and_a_shift_of_a_group_changes_nothing():
    scores, target = groups()[0].requires_grad_(), groups()[1].softmax(-1)
    loss = listwise(scores, target)
    (found,) = torch.autograd.grad(loss.sum(), scores)
    assert torch.allclose(found, scores.softmax(-1) - target)
    assert torch.allclose(listwise(scores + torch.arange(5.0)[:, None], target), loss)


def test_without_an_anchor_and_with_one_right_answer_it_is_cross_entropy():
    logits, right = groups()[0], torch.tensor([1, 0, 7, 3, 3])
    found = listwise(logits, torch.nn.functional.one_hot(right, 8).double())
    assert torch.allclose(found, torch.nn.functional.cross_entropy(logits, right, reduction="none"))


def test_a_preference_that_is_no_chance_is_refused_with_its_row():
    method = ADPO(preference=None)
    table = table_for(method)
    np.asarray(table.columns["preference"])[2] = 1.5
    with pytest.raises(BadInput, match="not a chance") as fault:
        method.arrange(table, 0)
    assert fault.value.file == "rows.jsonl:3"
