"""Acquisitions against simulation, against each other, and on the case where knowledge is worth less than improvement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from tunewright.search import acquisition
from tunewright.search.acquisition import (
    Limit,
    Process,
    expected_improvement,
    expected_maximum,
    fitted,
    knowledge_gradient,
    limited,
    noisy_improvement,
    proposed,
)
from tunewright.search.proposals import Proposals
from tunewright.search.space import Choice, Range

X = np.array([[0.1], [0.35], [0.8], [0.55]])
Y = np.array([0.2, 0.9, -0.5, 0.95])
EXACT = Process(X, Y, np.array([0.3]))
NOISY = Process(X, Y, np.array([0.3]), noise=0.04)


@pytest.mark.parametrize("gain", [-1.0, 0.0, 1.0])
def test_expected_improvement_equals_a_simulation(gain):
    drawn = np.maximum(gain + 0.7 * np.random.default_rng(0).standard_normal(1_000_000), 0)
    error = drawn.std() / 1000
    assert abs(float(expected_improvement(np.array(gain), np.array(0.7), 0.0)) - drawn.mean()) < 3 * error


def test_a_known_point_without_noise_promises_nothing():
    mean, covariance = EXACT.posterior(X)
    assert mean == pytest.approx(Y, abs=1e-6) and np.abs(np.diag(covariance)).max() < 1e-6
    found = expected_improvement(mean, np.sqrt(np.diag(covariance).clip(0)), Y.max())
    assert found[[0, 1, 2]] == pytest.approx(np.zeros(3), abs=1e-6)


def test_the_maximum_of_lines_equals_a_simulation():
    random = np.random.default_rng(1)
    z = random.standard_normal(400_000)
    for _ in range(20):
        a, b = random.standard_normal((2, 7))
        b[3] = b[5]
        drawn = (a[:, None] + b[:, None] * z).max(0)
        assert abs(expected_maximum(a, b) - drawn.mean()) < 4 * drawn.std() / np.sqrt(len(z))
    assert expected_maximum(np.array([1.0, 2.0]), np.zeros(2)) == 2.0


def test_without_noise_the_noisy_improvement_is_the_usual_one():
    for at in np.linspace(0.02, 0.98, 40):
        mean, covariance = EXACT.posterior(np.array([[at]]))
        usual = expected_improvement(mean, np.sqrt(np.diag(covariance).clip(0)), Y.max())
        assert noisy_improvement(EXACT, np.array([at])) == pytest.approx(float(usual[0]), abs=1e-7)


@pytest.mark.parametrize("process", [EXACT, NOISY])
def test_knowledge_bounds_improvement_from_above(process):
    for at in np.linspace(0, 1, 41):
        x = np.array([at])
        among = np.vstack([X, x, np.linspace(0, 1, 9)[:, None]])
        gained = knowledge_gradient(process, x, among)
        assert gained >= -1e-12
        mean, _ = process.posterior(among)
        assert gained + mean.max() >= noisy_improvement(process, x) + mean[: len(X)].max() - 1e-9


def test_knowledge_can_be_worth_less_than_improvement():
    """Where the posterior mean peaks between evaluated points, evaluating there improves on them and teaches little."""
    among = np.vstack([X, np.linspace(0, 1, 201)[:, None]])
    x = np.array([0.47])
    assert knowledge_gradient(EXACT, x, among) - noisy_improvement(EXACT, x) == pytest.approx(-0.13, abs=0.01)


def test_fitting_finds_which_coordinate_matters():
    random = np.random.default_rng(3)
    points = random.random((40, 2))
    made = fitted(points, np.sin(6 * points[:, 0]) + 0.01 * random.standard_normal(40), seed=0)
    assert made.lengths[0] < 0.5 * made.lengths[1] and made.noise < 0.05


def tried(sampler, trials, space, value, seed=1):
    proposals, values = Proposals(space, trials, sampler, seed, higher=False), []
    while points := proposals.ask():
        assert sampler == "random" or len(points) == 1
        values += (found := [value(point) for point in points])
        proposals.tell(found)
    assert len(values) == trials
    return [value for value in values if value is not None]


@pytest.fixture
def quick(monkeypatch):
    """Fewer places to climb from."""
    monkeypatch.setattr(acquisition, "CANDIDATES", 64)
    monkeypatch.setattr(acquisition, "RESTARTS", 2)


@pytest.mark.parametrize("sampler", ["noisy_ei", "kg"])
def test_they_come_nearer_to_the_minimum_than_random_search(sampler, quick):
    space = {"x": Range(-3.0, 3.0), "y": Range(-3.0, 3.0)}
    value = lambda point: (point["x"] - 1) ** 2 + (point["y"] + 0.5) ** 2
    assert min(tried(sampler, 12, space, value)) < 0.3 * min(tried("random", 12, space, value))


def test_choices_whole_numbers_and_failures_are_taken(quick):
    space = {"x": Range(1e-4, 1e-1), "n": Range(1, 8), "kind": Choice(("good", "bad"))}
    seen = []

    def value(point):
        seen.append(point)
        return None if len(seen) == 3 else point["n"] + (point["kind"] == "bad")

    assert len(tried("noisy_ei", 11, space, value)) == 10
    assert all(type(one["n"]) is int and type(one["x"]) is float and one["kind"] in ("good", "bad") for one in seen)


def test_a_limit_is_the_probability_of_keeping_it():
    """Cost 10 x without noise: sure below the limit, impossible above it, even at it."""
    points = np.linspace(0, 1, 9)[:, None]
    limit = limited(points, 10 * points[:, 0], 5.0, seed=0)
    assert limit.kept(np.array([0.1])) > 0.99 and limit.kept(np.array([0.9])) < 0.01
    mean, covariance = limit.process.posterior(np.array([[0.5]]))
    assert limit.kept(np.array([0.5])) == pytest.approx(norm.cdf((limit.most - mean[0]) / np.sqrt(covariance[0, 0])))


def test_improvement_under_limits_is_the_product_and_counts_allowed_points_alone(monkeypatch):
    tried = {}
    monkeypatch.setattr(acquisition, "maximised", lambda gain, d, seed: tried.update(gain=gain))
    limit = Limit(Process(X, np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.4])), 1.5)
    allowed = np.array([True, False, True, False])
    at = np.array([0.2])
    proposed(EXACT, "noisy_ei", 0, [limit], allowed)
    mean, covariance = EXACT.posterior(np.array([[0.2]]))
    usual = expected_improvement(mean, np.sqrt(np.diag(covariance)), Y[allowed].max())
    assert noisy_improvement(EXACT, at, allowed) == pytest.approx(float(usual[0]), abs=1e-7)
    assert tried["gain"](at) == pytest.approx(float(usual[0]) * limit.kept(at), abs=1e-7)
    proposed(EXACT, "noisy_ei", 0, [limit], np.zeros(4, dtype=bool))
    assert tried["gain"](at) == limit.kept(at)


def test_a_value_told_is_in_the_posterior():
    told = EXACT.told(np.array([0.2]), 3.0)
    mean, covariance = told.posterior(np.array([[0.2]]))
    assert mean[0] == pytest.approx(3.0, abs=1e-6) and covariance[0, 0] < 1e-6 and len(EXACT.points) == 4
    first = proposed(EXACT, "noisy_ei", 0)
    assert abs(proposed(EXACT.told(first, Y.max()), "noisy_ei", 1) - first)[0] > 0.05


def test_settings_proposed_together_follow_the_constant_liar(quick):
    """Each after the first is the best place once those before it have come out as good as the best so far."""
    space = {"x": Range(0.0, 1.0)}
    made = Proposals(space, 8, "noisy_ei", 3, together=3)
    value = lambda point: float(np.sin(14 * point["x"]))
    sizes = []
    while len(made._tried) < 4:
        batch = made.ask()
        sizes.append(len(batch))
        made.tell([value(one) for one in batch])
    assert sizes == [3, 1]  # The start's four points, at most three at once.
    process, seed = made._process(), 3 + 4
    batch = [one["x"] for one in made.ask()]
    for number, x in enumerate(batch):
        assert proposed(process, "noisy_ei", seed + number, (), np.ones(len(process.points), dtype=bool))[0] == x
        process = process.told(np.array([x]), float(process.values[:4].max()))


def test_limits_keep_noisy_improvement_within_them(quick):
    """Value and cost both rise with x; the limit allows x up to 0.5, just below which it then tries."""
    seen = {}
    for name, limits in (("free", None), ("held", {"cost": 5.0})):
        made, seen[name] = Proposals({"x": Range(0.0, 1.0)}, 12, "noisy_ei", 0, limits=limits), []
        while batch := made.ask():
            made.tell([one["x"] for one in batch], [{"cost": 10 * one["x"]} for one in batch])
            seen[name] += [one["x"] for one in batch]
    assert max(seen["held"][5:]) < 0.7 and max(seen["free"][5:]) > 0.9
    assert max(x for x in seen["held"] if x <= 0.5) > 0.45
