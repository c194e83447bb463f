"""ADPO: its formula, its special cases, its invariance."""

import math
from dataclasses import replace
from statistics import NormalDist, stdev

import numpy as np
import pytest
import torch

from tunewright.data.answers import NUMBER, REWARD, Answers
from tunewright.errors import BadInput
from tunewright.objectives import ADPO, DPO
from tunewright.objectives.preference.adpo import listwise, ordered
from tunewright.testing.objectives import assert_equals_literal
from tunewright.testing.runs import attach, differs, disturb, gradient, layouts, table_for, tiny_policy, usual_parts
from tunewright.testing.tables import random_table


def softmax(values):
    shares = [math.exp(v) for v in values]
    return [s / sum(shares) for s in shares]


def ranked(rewards, beta=0.5):
    """By hand: kernel-smoothed ranks of distinct rewards."""
    low, high = np.quantile(rewards, [0.25, 0.75])
    width = 0.9 * min(stdev(rewards), (high - low) / 1.34) * len(rewards) ** -0.2
    places = [np.mean([NormalDist().cdf((one - other) / width) for other in rewards]) for one in rewards]
    clipped = [min(max(place, 0.01), 0.99) for place in places]
    return softmax([math.log(f / (1 - f)) / beta for f in clipped])


TARGETS = {
    "advantage": lambda r: softmax([(x - sum(r) / len(r)) / stdev(r) / 0.5 for x in r]),
    "reward": lambda r: softmax([x / 0.5 for x in r]),
    "ranks": ranked,
    "winner": lambda r: [0.7 if x == max(r) else 0.1 for x in r],
}


@pytest.mark.parametrize("anchor", ["reference", "none"])
@pytest.mark.parametrize("target", TARGETS)
def test_equals_its_formula(target, anchor):
    def formula(*answers):
        wanted = TARGETS[target]([one.columns[REWARD] for one in answers])
        anchors = [one.reference_logp if anchor == "reference" else 0.0 for one in answers]
        scores = torch.stack([(one.logp - other) / 0.8 for one, other in zip(answers, anchors, strict=True)])
        shares = scores.exp() / scores.exp().sum() if anchor == "reference" else scores.softmax(0)
        return sum(q * (math.log(q) - p.log()) for q, p in zip(wanted, shares, strict=True)), 1.0

    assert_equals_literal(ADPO(target=target, anchor=anchor, preference=0.7), formula)


def test_the_order_equals_its_formula():
    def formula(*answers):
        left = sorted(answers, key=lambda one: -one.columns[REWARD])
        scores = [(one.logp - one.reference_logp) / 0.8 for one in left]
        likelihood = [scores[k].exp() / sum(score.exp() for score in scores[k:]) for k in range(len(scores))]
        return -sum(chance.log() for chance in likelihood), 1.0

    assert_equals_literal(ADPO(target="order"), formula)


def pairs():
    """Pairs of answers, as `dpo` reads them and as groups of two."""
    table = random_table(answers=Answers("pairs"))
    chosen = table.columns["chosen"]
    return replace(table, columns={**table.columns, REWARD: chosen, NUMBER: 1 - chosen})


def test_a_winner_of_two_is_dpo():
    policy = tiny_policy()
    attached = attach(usual_parts()["adapter"], policy)
    disturb(attached)
    found = [
        gradient(policy, attached, method, layouts(pairs())["1 x all"])
        for method in (ADPO(target="winner", tau=1 / 0.1), DPO(beta=0.1))
    ]
    (one, loss), (other, same) = found
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


@pytest.mark.parametrize("target", ["advantage", "reward", "winner", "ranks"])
def test_equal_rewards_want_all_answers_alike(target):
    found = ADPO(target=target, preference=0.9).wanted(torch.full((2, 8), 0.3))
    assert torch.allclose(found, torch.full((2, 8), 1 / 8))


def test_equal_rewards_of_an_order_have_their_least_loss_at_equal_scores():
    scores = groups()[0].requires_grad_()
    (found,) = torch.autograd.grad(ordered(scores, torch.zeros(5, 8, dtype=torch.float64)).sum(), scores)
    assert torch.allclose(found, 8 * scores.softmax(-1) - 1)


def test_the_order_of_two_is_dpo():
    scores = torch.tensor([[0.3, -0.4], [2.0, 1.0]], dtype=torch.float64)
    found = ordered(scores, torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    margins = torch.tensor([0.7, -1.0], dtype=torch.float64)
    assert torch.allclose(found, -torch.sigmoid(margins).log())


def test_the_probability_of_a_pair_is_the_sigmoid_of_the_gap():
    found = ADPO(target="reward", beta_reward=1.0).wanted(torch.tensor([[2.0, 0.5]]))
    assert found[0, 0].item() == pytest.approx(1 / (1 + math.exp(-1.5)))


def test_winners_share_what_a_winner_gets():
    found = ADPO(target="winner", preference=0.8).wanted(torch.tensor([[1.0, 3.0, 3.0, 0.0]]))
    assert found.tolist()[0] == pytest.approx([0.1, 0.4, 0.4, 0.1])


def test_ranks_do_not_care_how_far_an_outlier_is():
    far = [torch.tensor([[0.0, 1.0, 2.0, 3.0, far]], dtype=torch.float64) for far in (50.0, 5000.0)]
    ranks, plain = ([ADPO(target=target).wanted(one) for one in far] for target in ("ranks", "reward"))
    assert torch.allclose(ranks[0], ranks[1], atol=1e-6)
    assert plain[0][0, -1] > 0.999 and ranks[0][0, 3] > 0.01
    # One that is unlike all the others: no spread between the quartiles.
    assert ADPO(target="ranks").wanted(torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]])).isfinite().all()


def test_the_least_loss_is_at_the_anchor_times_the_target_to_the_power_of_tau():
    anchor, target = groups()[0].log_softmax(-1), groups()[1].softmax(-1)
    best = (anchor + 0.8 * target.log()).log_softmax(-1)
    assert torch.allclose(listwise((best - anchor) / 0.8, target), torch.zeros(5, dtype=torch.float64), atol=1e-12)


def test_a_preference_that_is_no_chance_is_refused_with_its_row():
    method = ADPO(target="winner", preference=None)
    table = table_for(method)
    np.asarray(table.columns["preference"])[2] = 1.5
    with pytest.raises(BadInput, match="not a chance") as fault:
        method.arrange(table, 0)
    assert fault.value.file == "rows.jsonl:3"
