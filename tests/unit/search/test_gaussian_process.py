"""The Gaussian process proposes better settings than chance on a smooth function."""

from __future__ import annotations

import warnings

from tunewright.search.proposals import Proposals
from tunewright.search.space import Range


def best(sampler: str, seed: int, trials: int = 16) -> float:
    proposals = Proposals({"x": Range(-3.0, 3.0), "y": Range(-3.0, 3.0)}, trials, sampler, seed, higher=False)  # type: ignore[arg-type]
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while points := proposals.ask():
            values += (found := [(p["x"] - 1.0) ** 2 + (p["y"] + 0.5) ** 2 for p in points])
            proposals.tell(found)
    assert len(values) == trials
    return min(values)


def test_it_comes_nearer_to_the_minimum_than_random_search() -> None:
    assert all(best("gp", seed) < 0.1 * best("random", seed) for seed in range(2))


def test_it_proposes_one_at_a_time_and_the_same_for_the_same_seed() -> None:
    one, other = (Proposals({"x": Range(0.0, 1.0)}, 3, "gp", seed=4) for _ in range(2))
    for _ in range(3):
        asked = one.ask()
        assert len(asked) == 1 and asked == other.ask()
        one.tell([asked[0]["x"]])
        other.tell([asked[0]["x"]])
