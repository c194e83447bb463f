"""GreenTrainer: the knapsack against brute force, importance that leaves no trace, counted operations."""

from itertools import combinations

import numpy as np
import pytest
import torch
from layer_runs import full_loop, spent

from tunewright.optimize.layers import GreenTrainer
from tunewright.optimize.layers._knapsack import best_set
from tunewright.optimize.layers.greentrainer import costs_of, importance, within
from tunewright.testing.runs import differing_bits


def cost(chosen, own, through):
    return sum(own[k] for k in chosen) + sum(through[: max(chosen)]) if chosen else 0


@pytest.mark.parametrize("seed", range(30))
def test_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9))
    values = rng.normal(0.3, 1, count)
    own, through = rng.integers(0, 12, count).tolist(), rng.integers(0, 12, count).tolist()
    budget = int(rng.integers(0, 60))
    sets = [c for size in range(count + 1) for c in combinations(range(count), size)]
    wanted = max(values[list(c)].sum() for c in sets if cost(c, own, through) <= budget)
    found = best_set(values, own, through, budget)
    assert cost(found, own, through) <= budget
    assert sum(values[k] for k in found) == pytest.approx(wanted)


def test_nothing_to_gain_is_the_empty_set():
    assert best_set([-1.0, -0.5], [1, 1], [1, 1], 10) == []
    assert best_set([], [], [], 10) == []


def test_the_whole_share_trains_every_tensor_of_positive_importance():
    loop = full_loop()
    costs, beyond = costs_of(loop)
    values = np.random.default_rng(0).normal(size=len(costs)).tolist()
    assert within(costs, values, beyond, 1.0, 1000) == [k for k, value in enumerate(values) if value > 0]


def test_costs_go_from_the_output_to_the_embedding_and_count_each_tensor_once():
    loop = full_loop(blocks=2)
    costs, beyond = costs_of(loop)
    order = [c.name for c in costs]
    assert order[:2] == ["lm_head.weight", "model.norm.weight"] and order[-1] == "model.embed_tokens.weight"
    assert sorted(order) == sorted(loop.attached.trained()) and beyond == 0
    at = order.index
    assert at("model.layers.1.mlp.down_proj.weight") < at("model.layers.1.mlp.gate_proj.weight")
    assert at("model.layers.1.mlp.gate_proj.weight") < at("model.layers.1.post_attention_layernorm.weight")
    assert at("model.layers.1.input_layernorm.weight") < at("model.layers.0.mlp.down_proj.weight")
    down = costs[at("model.layers.1.mlp.down_proj.weight")]
    assert (down.own, down.through, down.forward) == (2 * 32 * 32,) * 3


def test_importance_leaves_weights_and_optimizer_as_they_were():
    loop = full_loop()
    loop.advance(2)
    before = loop.snapshot()
    found = importance(loop)
    after = loop.snapshot()
    assert not differing_bits(before["trained"], after["trained"])
    for one, other in zip(before["optimizer"]["state"].values(), after["optimizer"]["state"].values(), strict=True):
        assert not differing_bits(one, other)
    assert before["state"] == after["state"] and torch.equal(before["random"], after["random"])
    assert max(abs(value) for value in found.values()) == pytest.approx(1)
    assert sum(found.values()) > 0, "a step down the gradient is expected to lower the loss"


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_step_takes_its_share_of_the_operations(share):
    full, green = spent(full_loop()), spent(full_loop(GreenTrainer(share=share)))
    assert 0.75 * share < green[0] / full[0] < share + 0.06
    assert green[1] < full[1] and green[2] < full[2] and green[3] < full[3]


def test_a_tied_embedding_stands_last_and_the_head_is_charged_to_every_choice():
    from tunewright import catalog
    from tunewright.testing.models import tiny
    from tunewright.testing.runs import tiny_loop

    loop = tiny_loop({"adapter": catalog.find("adapter", "full")()}, model=tiny(tie_word_embeddings=True))
    costs, beyond = costs_of(loop)
    assert costs[-1].name == "model.embed_tokens.weight" and costs[-1].own == beyond == 2 * 97 * 32
