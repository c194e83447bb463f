"""DPO: its formula, TRL's numbers, a reference that costs no memory."""

import gc
import math

import pytest
import torch
from trl_rows import as_pairs, assert_equals_trl, pairs_of

from tunewright.objectives import DPO
from tunewright.testing.objectives import assert_equals_literal
from tunewright.testing.runs import attach, disturb, layouts, table_for, tiny_policy, usual_parts


def formula(better, worse):
    margin = 0.1 * ((better.logp - better.reference_logp) - (worse.logp - worse.reference_logp))
    return -(1 / (1 + (-margin).exp())).log(), 1.0


def test_equals_its_formula():
    assert_equals_literal(DPO(), formula)


def test_equals_trl(tmp_path):
    made, found = pairs_of("sigmoid", tmp_path, beta=0.3)
    assert_equals_trl(made, found, DPO(beta=0.3), as_pairs(found))


def test_a_pair_at_the_reference_costs_log_two():
    policy = tiny_policy()
    attach(usual_parts()["adapter"], policy)
    loss = DPO().loss(policy, layouts(table_for(DPO()))["1 x all"][0])
    assert loss.total.item() / loss.weight.item() == pytest.approx(math.log(2), rel=1e-6)
    assert loss.parts["preference_accuracy"].item() == 0


def test_the_reference_is_the_policy_itself_and_no_copy_of_it():
    policy = tiny_policy()
    disturb(attach(usual_parts()["adapter"], policy))
    [batch] = layouts(table_for(DPO()))["1 x all"]
    shapes = {tuple(p.shape) for p in policy.parameters() if p.ndim == 2}
    weights = lambda: sum(torch.is_tensor(o) and tuple(o.shape) in shapes for o in gc.get_objects())
    before = weights()
    loss = DPO().loss(policy, batch)
    assert loss.total.requires_grad and weights() == before
    with policy.reference() as reference:
        assert reference is policy


def test_pairs_without_tokens_on_one_side_do_not_count():
    policy = tiny_policy()
    disturb(attach(usual_parts()["adapter"], policy))
    [batch] = layouts(table_for(DPO()))["1 x all"]
    batch.weights[3] = 0
    loss = DPO().loss(policy, batch)
    assert loss.per_sequence[1].tolist() == [1, 0, 0, 0, 1, 0, 1, 0]


def test_the_share_of_pairs_that_the_policy_orders_rightly_is_logged():
    policy = tiny_policy()
    disturb(attach(usual_parts()["adapter"], policy))
    [batch] = layouts(table_for(DPO()))["1 x all"]
    shares = []
    for _ in range(2):
        shares.append(DPO().loss(policy, batch).parts["preference_accuracy"].item())
        batch.columns["chosen"][:] = 1 - batch.columns["chosen"]
    assert sum(shares) == 4 and shares[0] == int(shares[0])
