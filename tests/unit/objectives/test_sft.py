"""SFT against its formula."""

import torch

from tunewright.objectives import SFT
from tunewright.testing.objectives import assert_equals_literal


def formula(seen):
    """sum_i w_i (-log p(x_i | x_<i)) and sum_i w_i."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(1, len(seen.ids)):
        chances = seen.logits[i - 1].exp() / seen.logits[i - 1].exp().sum()
        total = total - seen.weights[i] * chances[seen.ids[i]].log()
    return total, float(seen.weights[1:].sum())


def test_equals_its_formula():
    assert_equals_literal(SFT(), formula)
