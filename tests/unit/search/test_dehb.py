"""Differential evolution over brackets: its budget, its formulas, what replaces what, and better than chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.errors import BadInput
from tunewright.search.dehb import Evolution, bracket, crossed, mutant, plan
from tunewright.search.space import Choice, Range

SPACE = {"a": Range(0.0, 1.0), "b": Range(1e-5, 1e-1), "c": Range(0.0, 1.0)}


def distance(one):
    return (one["a"] - 0.3) ** 2 + ((math.log10(one["b"]) + 3) / 4) ** 2 + (one["c"] - 0.8) ** 2


def searched(seed=0, trials=30, space=SPACE, loss=distance):
    evolution, found = Evolution(space, trials, seed=seed, higher=False), []
    while batch := evolution.ask():
        values = [loss(one) for one in batch]
        evolution.tell(values)
        found += [(evolution.share, one, value) for one, value in zip(batch, values, strict=True)]
    return found


def test_brackets_of_eta_three():
    made = [[tuple(rung) for rung in bracket(3, start)] for start in range(3)]
    assert made == [[(9, 1 / 9), (3, 1 / 3), (1, 1.0)], [(5, 1 / 3), (1, 1.0)], [(3, 1.0)]]


def test_brackets_spend_the_trials_and_no_more():
    for eta in (2, 3, 4):
        for trials in range(3, 50):
            cost = sum(one.settings * one.share for one in plan([bracket(eta, k) for k in range(3)], trials))
            assert trials - 1 < cost <= trials + 1e-6
    assert sum(share for share, *_ in searched(trials=8)) == pytest.approx(3 + 8 / 3 + 2)
    with pytest.raises(BadInput, match="bracket"):
        Evolution(SPACE, 2)


def test_a_mutant_is_half_a_difference_away_and_genes_outside_are_drawn_anew():
    random = np.random.default_rng(0)
    a, b, c = np.array([0.5, 0.9, 0.1]), np.array([0.6, 0.9, 0.0]), np.array([0.2, 0.1, 0.8])
    made = np.stack([mutant(a, b, c, random) for _ in range(4000)])
    assert made[:, 0] == pytest.approx(0.5 + 0.5 * (0.6 - 0.2))
    # 0.9 + 0.4 and 0.1 - 0.4 lie outside: not cut to the end, but anywhere.
    for column in (1, 2):
        assert made[:, column].mean() == pytest.approx(0.5, abs=0.03) and made[:, column].std() > 0.25


def test_half_of_the_genes_cross_and_one_at_least():
    random = np.random.default_rng(0)
    taken = np.stack([crossed(np.zeros(4), np.ones(4), random) for _ in range(4000)])
    assert taken.sum(1).min() >= 1
    # One of four is certain, the other three are by halves.
    assert taken.mean() == pytest.approx((1 + 3 * 0.5) / 4, abs=0.02)


def test_the_first_bracket_halves_and_the_best_come_first():
    found = searched()
    first, second, third = found[:9], found[9:12], found[12:13]
    assert [one[0] for one in found[:13]] == [1 / 9] * 9 + [1 / 3] * 3 + [1.0]
    best = sorted(first, key=lambda one: one[2])
    assert [one[1] for one in second] == [one[1] for one in best[:3]] and third[0][1] == best[0][1]


def test_an_offspring_replaces_its_member_where_it_is_at_least_as_good():
    evolution = Evolution({"a": Range(0.0, 1.0)}, 20, higher=True)
    while evolution.ask() and evolution.share < 1.0:
        evolution.tell([1.0] * len(evolution._open))
    evolution.tell([1.0])
    second = evolution.ask()
    population = evolution._populations[1 / 3]
    before, born = population.genes.copy(), evolution._open.copy()
    assert len(second) == 5 and population.losses.tolist() == [-1.0] * 3 + [math.inf] * 2
    evolution.tell([0.5, 1.0, None, None, -7.0])
    kept = np.stack([before[0], born[1], before[2], born[3], born[4]])
    assert (population.genes == kept).all() and population.losses.tolist() == [-1.0, -1.0, -1.0, math.inf, 7.0]


def test_evolution_is_reproducible_within_its_space_and_nearer_than_chance():
    space = {"rank": Range(1, 64), "schedule": Choice(("cosine", "linear"))}
    found = searched(space=space, loss=lambda one: one["rank"])
    assert found == searched(space=space, loss=lambda one: one["rank"])
    assert all(isinstance(one["rank"], int) and 1 <= one["rank"] <= 64 for _, one, _ in found)
    evolved = [min(value for share, _, value in searched(seed) if share == 1.0) for seed in range(20)]
    draws = np.random.default_rng(0).random((400, 30, 3))
    random = ((draws - np.array([0.3, 0.5, 0.8])) ** 2).sum(2).min(1)
    assert np.mean(evolved) < 0.6 * random.mean()
