"""Short runs and long ones: which of them teaches most for its cost, and never more spent than there is."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.errors import BadInput
from tunewright.search import acquisition
from tunewright.search.acquisition import Process, knowledge_gradient
from tunewright.search.fidelity import SHARES, FidelityGradient, best_at, coordinate
from tunewright.search.space import Range

SPACE = {"x": Range(0.0, 1.0)}
X = np.array([[0.1, 1.0], [0.5, 0.5], [0.9, 0.0]])
AMONG = np.array([[u, 1.0] for u in np.linspace(0, 1, 21)])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(acquisition, "CANDIDATES", 48)
    monkeypatch.setattr(acquisition, "RESTARTS", 2)


def test_lengths_stand_at_equal_factors():
    assert [coordinate(share) for share in SHARES] == pytest.approx([0.0, 0.5, 1.0])


def test_the_setting_found_is_the_best_of_a_grid():
    process = Process(X, np.array([0.2, 0.9, -0.5]), np.array([0.3, 0.8]), noise=0.01)
    for share in SHARES:
        x, gained, at = best_at(process, AMONG, share, 0)
        grid = [
            knowledge_gradient(process, np.array([u, coordinate(share)]), AMONG) / share for u in np.linspace(0, 1, 201)
        ]
        assert at == share and 0 <= x[0] <= 1 and gained >= max(grid) - 1e-3 * abs(max(grid))


@pytest.mark.parametrize(("length", "expected"), [(50.0, SHARES[0]), (0.05, 1.0)])
def test_short_runs_are_taken_where_they_tell_all_and_long_ones_where_they_tell_nothing(length, expected):
    process = Process(X, np.array([0.2, 0.9, -0.5]), np.array([0.3, length]), noise=0.01)
    gained = {share: best_at(process, AMONG, share, 0)[1] for share in SHARES}
    assert max(gained, key=gained.get) == expected


def run(trials, value, seed=0):
    made = FidelityGradient(SPACE, trials, seed)
    spent, asked = 0.0, []
    while batch := made.ask():
        assert len(batch) == 1
        asked.append((batch[0]["x"], made.share))
        spent += made.share
        made.tell([value(*asked[-1])])
    return made, asked, spent


def test_it_spends_its_trials_at_most_and_ends_with_a_full_run_of_the_best():
    value = lambda x, share: -((x - 0.3) ** 2) - 0.1 * (1 - share)
    made, asked, spent = run(6, value)
    assert 5 < spent <= 6 + 1e-9 and asked == run(6, value)[1] != run(6, value, seed=1)[1]
    full = [x for x, share in asked if share == 1.0]
    assert min(abs(x - 0.3) for x in full) < 0.1
    assert len(made.means()) == len(asked) and len({share for _, share in asked}) == 3


def test_failures_count_as_the_worst_and_too_few_trials_are_refused():
    _, asked, spent = run(5, lambda x, share: None if x > 0.6 else x)
    assert spent <= 5 + 1e-9 and any(x > 0.6 for x, _ in asked)
    with pytest.raises(BadInput, match="too few for a start"):
        FidelityGradient(SPACE, 2)
