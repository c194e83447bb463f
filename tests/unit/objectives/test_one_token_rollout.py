"""One-token rollout: its formulas, its expectation, its special cases."""

import pytest
import torch

from tunewright.objectives import DFT, OneTokenRollout
from tunewright.objectives.supervised.one_token_rollout import DRAW, _Rollout, counted
from tunewright.testing.objectives import assert_equals_literal, loss_of
from tunewright.testing.runs import differs


@pytest.mark.parametrize("estimator", ["exact", "sampled"])
def test_equals_its_formula(estimator):
    def formula(seen):
        log = seen.logits[:-1].log_softmax(-1)
        chosen = (seen.logits[:-1] / 1.3).softmax(-1).detach()
        if estimator == "sampled":
            chosen = counted(chosen, seen.columns[DRAW][1:], 256)
        gold = torch.nn.functional.one_hot(seen.ids[1:], log.shape[-1])
        rewards = gold + -0.1 * (1 - gold)
        return (seen.weights[1:] * -(chosen * rewards * log).sum(-1)).sum(), seen.weight

    assert_equals_literal(OneTokenRollout(estimator=estimator), formula)


def test_at_kappa_one_the_exact_gradient_is_one_minus_beta_times_that_of_dft():
    (one, _), (other, _) = loss_of(OneTokenRollout(estimator="exact", kappa=1.0)), loss_of(DFT())
    assert differs(1.1 * other, one) < 1e-5


def at(method, logits, targets, seed=0):
    function = _Rollout(method)
    return function.gradient(logits, targets, {DRAW: torch.arange(len(targets)) + 1000 * seed})


def case():
    logits = torch.randn(7, 13, generator=torch.Generator().manual_seed(1))
    return logits, torch.tensor([0, 5, 12, 3, 3, 8, 1])


@pytest.mark.parametrize("kappa", [1.0, 1.3, 2.0])
def test_exact_gradient_is_the_one_in_closed_form(kappa):
    logits, targets = case()
    p, q = logits.softmax(-1), (logits / kappa).softmax(-1)
    onehot = torch.nn.functional.one_hot(targets, 13)
    own = q.gather(-1, targets[:, None])
    wanted = 1.1 * own * (p - onehot) - 0.1 * (p - q)
    found = at(OneTokenRollout(estimator="exact", kappa=kappa), logits, targets)[1]
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_mean_of_400_draws_is_the_exact_gradient():
    logits, targets = case()
    exact = at(OneTokenRollout(estimator="exact"), logits, targets)[1]
    drawn = torch.stack([at(OneTokenRollout(), logits, targets, seed)[1] for seed in range(400)])
    assert (drawn.mean(0) - exact).norm() / exact.norm() < 1e-2
    assert (drawn[0] - exact).norm() / exact.norm() > 1e-2


def test_one_draw_without_other_rewards_costs_nothing_unless_it_is_the_token():
    logits, targets = case()
    hits = 0
    for seed in range(200):
        values, _ = at(OneTokenRollout(samples=1, beta=0.0), logits, targets, seed)
        chosen = counted((logits / 1.3).softmax(-1), torch.arange(7) + 1000 * seed, 1).argmax(-1)
        assert torch.equal(values != 0, chosen == targets)
        hits += int((chosen == targets).sum())
    assert 0 < hits < 1400


def test_where_every_reward_is_one_the_expected_gradient_is_zero():
    logits, targets = case()
    found = at(OneTokenRollout(estimator="exact", kappa=1.0, beta=1.0), logits, targets)[1]
    assert found.abs().max() < 1e-6


def test_draws_have_the_shares_they_are_drawn_from():
    shares = torch.tensor([[0.5, 0.25, 0.2, 0.05]]).expand(1000, 4)
    found = counted(shares, torch.arange(1000), 100)
    error = (0.25 / 100_000) ** 0.5
    assert (found.mean(0) - shares[0]).abs().max() < 4 * error
    assert torch.allclose(found.sum(-1), torch.ones(1000)) and not torch.equal(found[0], found[1])
