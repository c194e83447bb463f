"""LISA: how often blocks are drawn, and what resting saves."""

import numpy as np
import pytest
from layer_runs import full_loop, spent

from tunewright.errors import BadInput
from tunewright.optimize.layers import Lisa
from tunewright.optimize.layers._drawn import blocks_of, drawn


def working(loop):
    return {name for name, p in loop.attached.trained().items() if p.requires_grad}


def test_frequencies_over_ten_thousand_draws_of_four_seeds():
    p, counts = np.full(8, 1 / 8), np.zeros(8)
    for seed in range(4):
        for turn in range(10_000):
            counts[drawn(p, 2, np.random.default_rng([seed, turn, 0xB10C]))] += 1
    sigma = (40_000 * 0.25 * 0.75) ** 0.5
    assert counts.sum() == 80_000
    assert np.abs(counts - 10_000).max() < 3 * sigma, counts


def test_exactly_two_blocks_and_all_outside_them():
    loop = full_loop(Lisa())
    loop.advance(1)
    at_work = blocks_of(working(loop))
    assert len(at_work) == 3
    assert len(at_work[""]) == 3


@pytest.mark.parametrize("every", [1, 20])
def test_optimizer_state_is_that_of_what_trains(every):
    loop = full_loop(Lisa(every=every), steps=6)
    for _ in range(6):
        loop.advance(1)
        held = sum(s["exp_avg"].numel() + s["exp_avg_sq"].numel() for s in loop.optimizer.state.values())
        trained = loop.attached.trained()
        assert held == 2 * sum(trained[name].numel() for name in working(loop))


def test_a_block_drawn_twice_keeps_its_state_and_one_that_rested_starts_anew():
    loop = full_loop(Lisa(every=1, blocks=4), steps=6)
    ages = {}
    for _ in range(6):
        loop.advance(1)
        trained = loop.attached.trained()
        ages = {name: ages.get(name, 0) + 1 for name in working(loop)}
        assert {n: int(loop.optimizer.state[trained[n]]["step"]) for n in ages} == ages


def test_keep_state_holds_the_moments_of_resting_blocks():
    loop = full_loop(Lisa(every=1, blocks=4, keep_state=True), steps=6)
    counts = dict.fromkeys(loop.attached.trained(), 0)
    for _ in range(6):
        loop.advance(1)
        counts = {name: count + (name in working(loop)) for name, count in counts.items()}
    trained = loop.attached.trained()
    assert {n: int(loop.optimizer.state[trained[n]]["step"]) for n, c in counts.items() if c} == {
        n: c for n, c in counts.items() if c
    }


def test_resting_blocks_cost_no_gradient_memory_and_no_time_for_it():
    full, lisa = spent(full_loop()), spent(full_loop(Lisa()))
    model = full_loop().policy.model
    block = sum(p.numel() for p in model.model.layers[0].parameters())
    everything = sum(p.numel() for p in model.parameters())
    assert full[2] - lisa[2] == 6 * block * 4
    assert (full[3], lisa[3]) == (2 * everything, 2 * (everything - 6 * block))
    assert lisa[1] < full[1]
    matrices = sum(p.numel() for p in model.model.layers[0].parameters() if p.ndim > 1)
    tokens = full_loop().batches(0)[0].ids.numel()
    assert full[0] - lisa[0] == 6 * 2 * matrices * tokens


def test_more_blocks_than_the_model_has_are_refused():
    with pytest.raises(BadInput, match="2 blocks"):
        full_loop(Lisa(blocks=3), blocks=2).advance(1)


def test_probabilities_are_even():
    assert Lisa().probabilities(None, ["a", "b"]).tolist() == [0.5, 0.5]
    assert isinstance(Lisa().probabilities(None, ["a"]), np.ndarray)
