"""Population-based training: who copies whom, how settings move, what a bandit prefers, and the same from a seed."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from tunewright.search.pb2 import Fading, PopulationBasedBandits, bound, standardised
from tunewright.search.pbt import PopulationBasedTraining, ends, perturbed
from tunewright.search.space import Choice, Range

SPACE = {"a": Range(0.0, 1.0), "b": Range(1e-5, 1e-1)}
KINDS = [PopulationBasedTraining, PopulationBasedBandits]


def trained(kind=PopulationBasedTraining, members=8, intervals=4, seed=0, gain=None, space=SPACE):
    """The members after every interval; a member's value is the sum of the gains of its schedule."""
    gain = gain or (lambda interval, one: -abs(one["a"] - 0.3))
    population, told = kind(space, members, intervals, seed), []
    while asked := population.ask():
        population.tell([sum(gain(k, one) for k, one in enumerate(member.schedule)) for member in asked])
        told.append(population.members)
    return told


def test_the_worst_quarter_and_all_that_failed_copy_the_best_quarter():
    assert ends([3.0, 1.0, 2.0, 4.0]) == ([1], [3])
    assert ends([5.0, 1.0, 7.0, 2.0, 8.0, 3.0, 4.0, 6.0]) == ([1, 3], [2, 4])
    assert ends([math.inf, 1.0, math.inf, math.inf]) == ([1], [0, 2, 3])
    assert ends([1.0, 2.0]) == ([0], [1]) and ends([1.0, 1.0, 1.0]) == ([0], [2])
    assert ends([math.inf, math.inf])[0] == []


def test_numbers_move_by_a_fifth_within_their_range_and_choices_to_a_neighbour():
    random = np.random.default_rng(0)
    space = {"x": Range(0.0, 1.0), "n": Range(1, 64), "small": Range(1, 64), "rank": Choice((8, 32, 16)), "how": Choice(("a", "b"))}  # fmt: skip
    values = {"x": 0.9, "n": 10, "small": 1, "rank": 16, "how": "a"}
    made = [perturbed(space, values, random) for _ in range(200)]
    found = {key: {one[key] for one in made} for key in space}
    assert found["x"] == {0.9 * 0.8, 1.0} and found["n"] == {8, 12} and found["small"] == {1, 2}
    assert found["rank"] == {8, 32} and found["how"] == {"a", "b"}
    assert all(isinstance(one["n"], int) for one in made)
    assert {one["rank"] for one in (perturbed(space, {**values, "rank": 8}, random) for _ in range(50))} == {8, 16}
    both = np.array([[one["x"] < 0.9, one["n"] < 10] for one in made])
    assert 0.3 < np.mean(both[:, 0] == both[:, 1]) < 0.7  # each by itself


def test_copies_take_the_whole_schedule_of_one_of_the_best_and_the_others_go_on():
    told = trained()
    for before, after in pairwise(told):
        best, worst = ends([one.loss for one in before])
        assert len(best) == len(worst) == 2
        for place, member in enumerate(after):
            origin = next(one for one in before if one.lineage == member.lineage[:-1])
            assert member.lineage[-1] == place and member.schedule[:-1] == origin.schedule
            copied = before.index(origin)
            assert copied in best if place in worst else copied == place
            moved = member.schedule[-1] != origin.schedule[-1]
            assert moved == (place in worst)
            if moved:
                was, now = origin.schedule[-1]["b"], member.schedule[-1]["b"]
                assert now in (max(was * 0.8, 1e-5), min(was * 1.2, 1e-1))
        assert len({str(one.schedule) for one in after}) == len(after)


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_is_the_same_from_its_seed_and_within_its_space(kind):
    assert trained(kind) == trained(kind) and trained(kind) != trained(kind, seed=1)
    last = trained(kind)[-1]
    assert len(trained(kind)) == 4 and len(last) == 8 and all(len(one.schedule) == 4 for one in last)
    assert all(0 <= v["a"] <= 1 and 1e-5 <= v["b"] <= 1e-1 for one in last for v in one.schedule)


def test_no_two_members_train_the_same_where_there_is_another_way():
    """The best value lies at the end of the range, from where half of the perturbations lead nowhere."""
    for seed in range(10):
        for members in trained(seed=seed, space={"a": Range(0.0, 1.0)}, gain=lambda k, one: one["a"]):
            assert len({str(one.schedule) for one in members}) == len(members)
    choices = trained(space={"how": Choice(("x", "y"))}, gain=lambda k, one: one["how"] == "x")
    assert len(choices[-1]) == 8  # more members than ways: some are the same


@pytest.mark.parametrize("kind", KINDS)
def test_failed_members_are_replaced_and_a_population_without_a_member_ends(kind):
    population = kind(SPACE, 4, 3)
    population.ask()
    population.tell([None, math.nan, 1.0, None])
    assert [one.lineage for one in population.ask()] == [(2, 0), (2, 1), (2, 2), (2, 3)]
    population.tell([None] * 4)
    assert population.ask() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_beats_its_own_first_settings_where_the_best_one_moves(kind):
    """The best `a` falls from interval to interval: no constant setting is best in all."""
    gain = lambda interval, one: -abs(one["a"] - (0.8, 0.6, 0.4, 0.25)[interval])
    better = []
    for seed in range(6):
        told = trained(kind, seed=seed, gain=gain)
        constant = max(sum(gain(k, one.schedule[0]) for k in range(4)) for one in told[0])
        better.append(-min(one.loss for one in told[-1]) - constant)
    assert np.mean(better) > 0


def test_a_bandit_goes_where_gains_are_known():
    """`a` around 0.7 gains most; what copies take up is near it, where places at random are 0.29 away on average."""
    gain, taken = lambda interval, one: math.exp(-((one["a"] - 0.7) ** 2) / 0.02), []
    for seed in range(4):
        told = trained(PopulationBasedBandits, members=12, seed=seed, gain=gain)
        for before, after in pairwise(told):
            _, worst = ends([one.loss for one in before])
            taken += [abs(after[place].schedule[-1]["a"] - 0.7) for place in worst]
    assert np.mean(taken) < 0.15


def test_the_bound_is_the_known_gain_and_rises_where_nothing_is_known():
    known = np.column_stack([np.ones(9), np.linspace(0, 0.4, 9)])
    gains = standardised(np.linspace(0, 1, 9))
    asked = np.column_stack([np.full(3, 2.0), [0.0, 0.4, 0.45]])
    low, high, _ = bound(known, gains, known[:0], asked)
    assert high > low + 1
    # A member that goes on at 0.9 takes away what could be learned there.
    beyond = np.array([[2.0, 0.9]])
    assert bound(known, gains, beyond, beyond) < bound(known, gains, known[:0], beyond)


def test_old_gains_fade_in_the_kernel():
    points = np.array([[1.0, 0.2], [3.0, 0.2], [3.0, 0.6]])
    k = Fading(length=0.4, forgotten=0.3)(points)
    assert k[0, 1] == pytest.approx(0.7) and k[1, 2] == pytest.approx(math.exp(-0.5))
    assert k[0, 2] == pytest.approx(k[0, 1] * k[1, 2]) and np.diag(k) == pytest.approx(1.0)


def test_gains_are_compared_within_an_interval():
    assert standardised(np.array([1.0, 3.0])) == pytest.approx([-1, 1])
    assert standardised(np.array([1.0, 3.0, -np.inf])) == pytest.approx([-1, 1, -2])
    assert standardised(np.array([2.0, 2.0])) == pytest.approx([0, 0])
    assert standardised(np.array([-np.inf, -np.inf])) == pytest.approx([-2, -2])


def test_a_bandit_chooses_among_words_and_whole_numbers():
    space = {"how": Choice(("x", "y", "z")), "n": Range(1, 64)}
    told = trained(PopulationBasedBandits, members=8, intervals=5, space=space, gain=lambda k, one: one["how"] == "y")
    assert all(isinstance(one.schedule[-1]["n"], int) for one in told[-1])
    late = [one.schedule[-1]["how"] for one in told[-1] if one.schedule[-1] != one.schedule[-2]]
    assert late and late.count("y") >= len(late) / 2


def test_a_place_is_where_its_value_comes_from():
    for axis, values in (
        (Range(1e-5, 1e-1), (1e-5, 3e-4, 1e-1)),
        (Range(0.0, 4.0), (0.0, 1.0)),
        (Range(1, 64), (1, 7, 64)),
    ):
        assert [axis.at(axis.place(one)) for one in values] == pytest.approx(values)
