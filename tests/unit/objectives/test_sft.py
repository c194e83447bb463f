"""SFT against its formula."""

import torch

from tunewright.objectives import SFT
from tunewright.testing.objectives import assert_equals_literal


def formula(logits, ids, weights):
    """sum_i w_i (-log p(x_i | x_<i)) and sum_i w_i."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(1, len(ids)):
        chances = logits[i - 1].exp() / logits[i - 1].exp().sum()
        total = total - weights[i] * chances[ids[i]].log()
    return total, float(weights[1:].sum())


def test_equals_its_formula():
    assert_equals_literal(SFT(), formula)
