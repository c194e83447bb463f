"""FAIT: what is marked, how much it weighs, its special cases."""

import math

import pytest
import torch

from tunewright.data.answers import Answers
from tunewright.objectives import FAIT, SFT
from tunewright.objectives.supervised.fait import SENSITIVE, differing
from tunewright.testing.objectives import assert_equals_literal
from tunewright.testing.runs import layouts, tiny_policy
from tunewright.testing.tables import random_table


def marked(one, other):
    masks = differing([*map(ord, one)], [*map(ord, other)])
    return tuple("".join(c for c, m in zip(text, mask, strict=True) if m)
                 for text, mask in zip((one, other), masks, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("a+b", "a+b", ("", "")),
        ("a+b", "a-b", ("+", "-")),
        ("x>=y", "x>y", ("=", "y")),
        ("x>y", "x>=y", ("y", "=")),
        ("ab", "abc", ("b", "c")),
        ("abc", "ab", ("c", "b")),
        ("kitten", "sitting", ("ken", "sig")),
    ],
)
def test_what_is_marked(one, other, wanted):
    assert marked(one, other) == wanted


def formula_of(method):
    def formula(better, worse):
        means, own = [], None
        for one in (better, worse):
            log = one.logits[:-1].log_softmax(-1)[torch.arange(len(one.ids) - 1), one.ids[1:]]
            own = log if own is None else own
            inside = (one.columns[SENSITIVE][1:] > 0) & (one.weights[1:] != 0)
            means.append(log[inside].mean().item() if inside.any() else 0.0)
        gain = min(method.w_max, 1 + method.scale / (1 + math.exp(means[0] - means[1])))
        factors = torch.where(better.columns[SENSITIVE][1:] > 0, gain, 1.0).double()
        weights = better.weights[1:]
        heavy = weights * factors if method.normalise == "weights" else weights
        return -(weights * factors * own).sum(), float(heavy.sum())

    return formula


@pytest.mark.parametrize("method", [FAIT(), FAIT(normalise="weights"), FAIT(scale=4.0, w_max=1.5)])
def test_equals_its_formula_with_the_weights_as_constants(method):
    assert_equals_literal(method, formula_of(method))


def test_without_scale_it_is_likelihood_of_the_right_answers():
    def formula(better, worse):
        return -better.logp, better.weight

    assert_equals_literal(FAIT(scale=0.0), formula)


def random_pairs(equal):
    """Pairs of one length; the same answer twice where `equal`."""
    table = random_table([9] * 6, answers=Answers("pairs"))
    if equal:
        for column in (table.ids, table.weights):
            column.reshape(3, 2, 9)[:, 1] = column.reshape(3, 2, 9)[:, 0]
    return FAIT().arrange(table, 0)


def test_a_right_answer_beside_itself_is_plain_likelihood():
    policy = tiny_policy()
    for equal in (True, False):
        [batch] = layouts(random_pairs(equal))["1 x all"]
        right = batch.only(batch.columns["chosen"] == 1)
        plain, found = SFT().loss(policy, right), FAIT().loss(policy, batch)
        assert torch.allclose(plain.total, found.total) is equal
        assert torch.equal(plain.weight, found.weight)


@pytest.mark.parametrize("lead", [-30.0, -1.0, 0.0, 1.0, 30.0])
def test_the_weight_by_how_much_the_model_prefers_the_wrong_tokens(lead):
    """Fixed log-probabilities: -1 for the right answer's tokens, -1 + lead for the near miss."""

    class Fixed:
        def logprobs(self, batch):
            rising = torch.full((len(batch.kept[0]),), -1.0)
            return rising if batch.columns["chosen"][0] == 1 else rising + lead

    [batch] = layouts(random_pairs(False))["1 x all"]
    right = batch.only(batch.columns["chosen"] == 1)
    sensitive = (right.token_columns[SENSITIVE] * right.weights).sum()
    loss = FAIT().loss(Fixed(), batch)
    gain = 1 + (loss.total - loss.weight) / sensitive
    assert gain.item() == pytest.approx(1 + 2 / (1 + math.exp(-lead)), rel=1e-4)
