"""PoFT: its formula and the coefficient of its gradient."""

import math

import numpy as np
import pytest
import torch

from tunewright.data.batches import collate
from tunewright.objectives import PoFT
from tunewright.testing.objectives import assert_equals_literal
from tunewright.testing.runs import attach, differs, disturb, gradient, table_for, tiny_policy, usual_parts


@pytest.mark.parametrize("method", [PoFT(), PoFT(beta=2.0, gamma=0.3)])
def test_equals_its_formula(method):
    def formula(seen):
        lead = seen.logp / seen.weight - seen.columns["aligned_logprob"]
        return (1 + (-(method.beta * lead + method.gamma)).exp()).log(), 1.0

    assert_equals_literal(method, formula)


class Mean(PoFT):
    """The mean negative log-likelihood of a row's tokens."""

    def loss(self, policy, batch):
        made = super().loss(policy, batch)
        weights = batch.weights[batch.kept]
        own = -(weights * policy.logprobs(batch)).sum() / weights.sum()
        return type(made)(own, made.weight, made.per_sequence)


@pytest.mark.parametrize("settings", [{}, {"beta": 2.0, "gamma": 0.3}])
def test_gradient_is_that_of_the_mean_likelihood_times_a_coefficient(settings):
    method, plain = PoFT(**settings), Mean(**settings)
    table = table_for(method)
    policy = tiny_policy()
    attached = attach(usual_parts()["adapter"], policy)
    disturb(attached)
    own, mean = gradient(policy, attached, plain, [collate(table, [1])])
    aligned = np.asarray(table.columns["aligned_logprob"])
    found = []
    for away in (-30.0, -1.0, 0.0, 1.0, 30.0):
        aligned[1] = -mean + away
        vector, loss = gradient(policy, attached, method, [collate(table, [1])])
        share = 1 / (1 + math.exp(-(method.beta * away - method.gamma)))
        found.append(share)
        if share > 1e-6:
            assert differs(method.beta * share * own, vector) < 1e-5
        else:
            assert vector.norm() < 1e-6 * own.norm()
        if away == 0 and not settings:
            assert loss == pytest.approx(math.log(2), rel=1e-6) and share == 0.5
    assert found == sorted(found) and found[0] < 1e-6 and found[-1] == pytest.approx(1.0)
    assert torch.isfinite(vector).all()
