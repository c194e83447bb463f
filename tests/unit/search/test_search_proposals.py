"""Hyperparameter proposals: the same from the same seed, within their space, better than chance, and never too many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import qmc

from tunewright.errors import BadInput
from tunewright.search.halving import rungs
from tunewright.search.proposals import Proposals
from tunewright.search.space import Choice, Range, axis, split

SPACE = {"optimizer.lr": Range(1e-5, 1e-1), "adapter.rank": Range(1, 64), "schedule": Choice(("cosine", "linear"))}


def drawn(sampler="tpe", trials=12, seed=0, value=lambda one: -abs(math.log10(one["optimizer.lr"]) + 3), space=SPACE):
    proposals, found = Proposals(space, trials, sampler, seed), []
    while batch := proposals.ask():
        proposals.tell([value(one) for one in batch])
        found += batch
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random", "halton"])
def test_proposals_are_reproducible_and_within_their_space(sampler):
    found = drawn(sampler)
    assert len(found) == 12 and found == drawn(sampler) and found != drawn(sampler, seed=1)
    assert all(1e-5 <= one["optimizer.lr"] <= 1e-1 and one["schedule"] in ("cosine", "linear") for one in found)
    assert all(isinstance(one["adapter.rank"], int) for one in found)


def test_wide_ranges_are_searched_by_factors():
    rates = np.log10([one["optimizer.lr"] for one in drawn("random", 200)])
    assert np.histogram(rates, bins=4, range=(-5, -1))[0].min() > 25


def test_tpe_comes_nearer_than_chance():
    space = {"optimizer.lr": Range(1e-6, 1.0)}
    far = lambda sampler: np.mean(
        [min(abs(math.log10(o["optimizer.lr"]) + 3) for o in drawn(sampler, 24, s, space=space)[8:]) for s in range(6)]
    )
    assert far("tpe") < far("random")


def test_a_grid_is_even_and_within_the_trials():
    space = {"optimizer.lr": Range(1e-4, 1e-2), "schedule": Choice(("cosine", "linear"))}
    found = drawn("grid", 7, space=space)
    assert len(found) == 6
    assert sorted({one["optimizer.lr"] for one in found}) == pytest.approx([1e-4, 1e-3, 1e-2])
    with pytest.raises(BadInput, match="more points"):
        Proposals({"a": Choice((1, 2, 3))}, 2, "grid")


def test_halton_points_fill_a_space_more_evenly_than_chance():
    space = {"a": Range(0.0, 1.0), "b": Range(1e-4, 1.0), "c": Choice((1, 2, 3))}
    places = lambda sampler, seed: [
        (o["a"], 1 + math.log10(o["b"]) / 4) for o in drawn(sampler, 27, seed, lambda o: 0.0, space)
    ]
    far = lambda sampler: np.mean([qmc.discrepancy(places(sampler, seed)) for seed in range(10)])
    assert far("halton") < 0.5 * far("random")
    thirds = [one["c"] for one in drawn("halton", 27, space={"c": Choice((1, 2, 3))}, value=lambda one: 0.0)]
    assert [thirds.count(k) for k in (1, 2, 3)] == pytest.approx([9, 9, 9], abs=1)
    assert len(drawn("halton", 5, space=space, value=lambda one: 0.0)) == 5


def test_places_of_a_range_and_a_choice():
    assert [Range(1, 3).at(u) for u in (0.0, 0.34, 0.67, 1.0)] == [1, 2, 3, 3]
    assert Range(1e-4, 1e-2).at(0.5) == pytest.approx(1e-3) and Range(0.0, 4.0).at(0.25) == 1.0
    assert [Choice(("x", "y")).at(u) for u in (0.0, 0.49, 0.5, 1.0)] == ["x", "x", "y", "y"]


def test_a_failed_trial_is_not_a_value():
    proposals = Proposals({"a": Range(0.0, 1.0)}, 4)
    proposals.ask()
    proposals.tell([None, math.nan, 1.0, 2.0])
    assert proposals.ask() == []


def test_halving_costs_no_more_than_full_runs():
    assert rungs(8, 3) == [(24, 1 / 9), (8, 1 / 3), (2, 1.0)]
    for trials in range(1, 40):
        for factor in (2, 3, 4):
            rounds = rungs(trials, factor)
            assert sum(one.settings * one.share for one in rounds) <= trials + 1e-9
            assert all(one.settings >= 1 for one in rounds) and rounds[-1].share == 1.0


def test_values_are_read_as_written():
    assert axis("1e-5..1e-2", "k") == Range(1e-5, 1e-2) and axis("4..64", "k").whole
    assert axis("cosine,linear", "k") == Choice(("cosine", "linear")) and axis([8, 16], "k") == Choice((8, 16))
    assert split("[a, b], {c: 1, d: 2}, 'e,f'") == ["[a, b]", "{c: 1, d: 2}", "'e,f'"]
    for wrong in ("5..1", "x..y", "alone", 3, (1, 2, 3)):
        with pytest.raises(BadInput):
            axis(wrong, "tune.k")
