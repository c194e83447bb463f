"""Domain upsampling: shares before and after the switch."""

import numpy as np
import pytest
from scipy.stats import chisquare

from tunewright.data.batches import Plan, Share
from tunewright.data.order import DomainUpsampling
from tunewright.data.order.domain_upsampling import shares_of
from tunewright.errors import BadInput

SIZES = (687, 734, 143, 436)
"""Web, curated web, domain, code as in the paper: 34.35, 36.70, 7.17 and 21.78 percent, here of 2000 rows."""


def plan(steps=200, shares=None, **changes):
    sources = np.repeat(np.arange(4), SIZES)
    return Plan(np.full(len(sources), 10), sources, shares or (Share(),) * 4, 1000, 0, **{"steps": steps, **changes})


def counts(made, steps):
    drawn = np.concatenate([made.step(step) for step in steps])
    return np.bincount(made.sources[drawn], minlength=4)


def test_the_papers_factors_give_its_shares():
    found = DomainUpsampling(factors=(0.0, 0.8, 5.0, 1.6)).weights(plan())
    assert (100 * found).round(1).tolist() == pytest.approx([0.0, 29.3, 35.8, 34.8], abs=0.15)


def test_drawn_sources_match_the_shares_before_and_after_the_switch():
    usual = plan()
    method = DomainUpsampling(factors=(0.0, 0.8, 5.0, 1.6))
    made = method.plan(usual, None)
    before, after = counts(made, range(160)), counts(made, range(160, 200))
    assert chisquare(before, shares_of(usual) * before.sum()).pvalue > 0.01
    assert after[0] == 0
    assert chisquare(after[1:], method.weights(usual)[1:] * after.sum()).pvalue > 0.01


def test_the_steps_before_the_switch_are_the_usual_ones():
    usual = plan()
    made = DomainUpsampling(share=0.1).plan(usual, None)
    assert made.total == 200
    assert all(np.array_equal(made.step(step), usual.step(step)) for step in range(180))
    assert not np.array_equal(made.step(180), usual.step(180))


def test_no_share_is_the_usual_run():
    usual = plan()
    assert DomainUpsampling(share=0.0).plan(usual, None) is usual


def test_the_length_is_kept_however_it_was_given():
    usual = plan(steps=None, epochs=2.0)
    assert DomainUpsampling().plan(usual, None).total == usual.total == 40


def test_leaving_one_out_spreads_its_share_over_the_rest():
    usual = plan(shares=(Share(2.0), Share(), Share(weight=3.0), Share()))
    found = DomainUpsampling(factors=(1.0, 1.0, 0.0, 1.0)).weights(usual)
    left = shares_of(usual)[[0, 1, 3]]
    assert found[2] == 0 and found.sum() == pytest.approx(1)
    assert found[[0, 1, 3]] == pytest.approx(left / left.sum())


@pytest.mark.parametrize("factors", [(1.0,), (0.0, 0.0, 0.0, 0.0)])
def test_factors_that_do_not_fit_are_refused(factors):
    with pytest.raises(BadInput, match="factor"):
        DomainUpsampling(factors=factors).plan(plan(), None)
