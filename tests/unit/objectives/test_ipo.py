"""IPO: its formula and TRL's numbers."""

import pytest
from trl_rows import as_pairs, assert_equals_trl, pairs_of

from tunewright.objectives import IPO
from tunewright.testing.objectives import assert_equals_literal


@pytest.mark.parametrize("per_token", [True, False])
def test_equals_its_formula(per_token):
    def formula(better, worse):
        gains = [(one.logp - one.reference_logp) / (one.weight if per_token else 1) for one in (better, worse)]
        return (gains[0] - gains[1] - 5) ** 2, 1.0

    assert_equals_literal(IPO(per_token=per_token), formula)


def test_equals_trl(tmp_path):
    made, found = pairs_of("ipo", tmp_path, beta=0.3)
    assert_equals_trl(made, found, IPO(beta=0.3), as_pairs(found))
