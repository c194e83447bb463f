"""INPO: its formula, its special cases, and the update it stands for."""

import pytest
import torch
from pydantic import ValidationError

from tunewright.objectives import INPO, IPO
from tunewright.testing.objectives import assert_equals_literal, loss_of
from tunewright.testing.runs import attach, differs, disturb, layouts, supply, table_for, tiny_policy, usual_parts

PREFERRED = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], dtype=torch.float64)
REFERENCE = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
TAU = 0.05


def test_equals_its_formula():
    def formula(better, worse):
        gap = (better.logp - better.reference_logp) - (worse.logp - worse.reference_logp)
        return (gap - 1 / (2 * 0.1)) ** 2, 1.0

    assert_equals_literal(INPO(eta=0.1, tau=0.03), formula)


def test_with_tau_at_eta_it_is_ipo_on_sums():
    (one, loss), (other, same) = loss_of(INPO(eta=0.1, tau=0.1)), loss_of(IPO(beta=0.1, per_token=False))
    assert loss == pytest.approx(same, rel=1e-6) and differs(one, other) < 1e-5


def test_reference_and_start_are_weighted_by_tau():
    policy = tiny_policy()
    disturb(attach(usual_parts()["adapter"], policy))
    supply(policy, ["reference"])
    method = INPO(eta=0.1, tau=0.03)
    [batch] = layouts(table_for(method))["1 x all"]
    weights = batch.weights[batch.kept]
    number = batch.sequence[batch.kept]
    total = lambda values: torch.zeros(8).index_add(0, number, weights * values)
    own = total(policy.logprobs(batch))
    with policy.reference() as reference:
        assert reference is not policy
        away = total(reference.logprobs(batch))
    with policy.start() as start:
        assert start is policy
        begun = total(start.logprobs(batch))
    rewards = own - 0.3 * away - 0.7 * begun
    wanted = ((rewards[::2] - rewards[1::2] - 5) ** 2).sum()
    assert method.loss(policy, batch).total.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_at_the_start_of_the_first_round_a_pair_costs_the_squared_target():
    policy = tiny_policy()
    attach(usual_parts()["adapter"], policy)
    loss = INPO(eta=0.1, tau=0.03).loss(policy, layouts(table_for(INPO()))["1 x all"][0])
    assert loss.total.item() / loss.weight.item() == pytest.approx(1 / (4 * 0.1**2))


def test_where_reference_and_start_are_one_it_is_computed_once(monkeypatch):
    policy = tiny_policy()
    attach(usual_parts()["adapter"], policy)
    calls, usual = [], type(policy).logprobs
    monkeypatch.setattr(type(policy), "logprobs", lambda own, batch: calls.append(own) or usual(own, batch))
    for passes, supplied in ((2, []), (3, ["reference"])):
        supply(policy, supplied)
        calls.clear()
        INPO().loss(policy, layouts(table_for(INPO()))["1 x all"][0])
        assert len(calls) == passes


def test_tau_above_eta_is_refused():
    with pytest.raises(ValidationError, match="tau is at most eta"):
        INPO(eta=0.1, tau=0.2)


def updated(policy, eta):
    """The round's target: p proportional to p_ref^(tau/eta) p^(1 - tau/eta) exp(P p / eta)."""
    found = REFERENCE ** (TAU / eta) * policy ** (1 - TAU / eta) * ((PREFERRED @ policy) / eta).exp()
    return found / found.sum()


def gap(policy):
    """max_a J(a, p) - min_b J(p, b), J(a, b) = a P b - tau KL(a || ref) + tau KL(b || ref), in closed form."""
    log_mean = lambda values: TAU * (REFERENCE * (values / TAU).exp()).sum().log()
    divergence = TAU * (policy * (policy / REFERENCE).log()).sum()
    best = log_mean(PREFERRED @ policy) + divergence
    worst = -log_mean(-(policy @ PREFERRED)) - divergence
    return float(best - worst)


def test_rounds_converge_with_a_small_step_and_cycle_with_a_large_one():
    policy, gaps = REFERENCE, []
    for _ in range(500):
        policy = updated(policy, 2.0)
        gaps.append(gap(policy))
    assert [round(share, 3) for share in policy.tolist()] == [0.390, 0.264, 0.346]
    assert 340 <= next(step for step, value in enumerate(gaps) if value < 1e-6) <= 360
    policy, gaps = REFERENCE, []
    for _ in range(400):
        policy = updated(policy, 0.1)
        gaps.append(gap(policy))
    assert min(gaps) > 0.2 and max(gaps) < 0.85 and sum(gaps) / 400 == pytest.approx(0.56, abs=0.01)


def test_the_loss_over_all_pairs_of_the_start_is_least_at_the_update():
    """For P(y beats y') the labelled pairs of (y, y') have the expected loss
    P (h - t)^2 + (1 - P)(-h - t)^2, t = 1/(2 eta); its gradient at the update is zero."""
    start, eta = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), 0.4
    log = updated(start, eta).log().requires_grad_()
    reward = log - (TAU / eta) * REFERENCE.log() - (1 - TAU / eta) * start.log()
    margin = reward[:, None] - reward[None, :]
    target = 1 / (2 * eta)
    loss = PREFERRED * (margin - target) ** 2 + (1 - PREFERRED) * (-margin - target) ** 2
    (gradient,) = torch.autograd.grad((start[:, None] * start[None, :] * loss).sum(), log)
    assert gradient.abs().max() < 1e-12
