"""Acquisitions against simulation, against each other, and on the case where knowledge is worth less than improvement."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.search import acquisition
from tunewright.search.acquisition import (
    Process,
    expected_improvement,
    expected_maximum,
    fitted,
    knowledge_gradient,
    noisy_improvement,
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
