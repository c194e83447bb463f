"""OwLore: probabilities from outliers, draws by them."""

import numpy as np
import pytest
import torch
from layer_runs import full_loop

from tunewright.optimize.layers import Lisa, Owlore
from tunewright.optimize.layers._drawn import drawn
from tunewright.optimize.layers.owlore import measured, outliers

NAMES = [f"model.layers.{n}" for n in range(8)]


def gaussian(seed, shape=(300, 400)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).abs()


def test_flat_gaussian_entries_have_the_known_shares():
    found = [outliers([gaussian(0, (2000, 2000))], threshold, "matrix") for threshold in (3, 5, 13)]
    assert found == pytest.approx([1.67, 0.0066, 0.0], abs=0.03)


def test_planted_outliers_lift_their_block_alone():
    blocks = [[gaussian(n)] for n in range(3)]
    before = [outliers(block, 5, "matrix") for block in blocks]
    planted = blocks[1][0].clone().flatten()
    planted[::100] = 100 * planted.mean()
    after = [outliers([blocks[0][0]], 5, "matrix"), outliers([planted], 5, "matrix"), outliers(blocks[2], 5, "matrix")]
    assert before == pytest.approx([0, 0, 0], abs=0.02)
    assert after[1] == pytest.approx(1.0, abs=0.01)
    assert (after[0], after[2]) == (before[0], before[2])


def test_scaling_one_matrix_matters_only_to_a_mean_over_the_block():
    block = [gaussian(1), gaussian(2)]
    scaled = [block[0] * 50, block[1]]
    assert outliers(block, 3, "matrix") == outliers(scaled, 3, "matrix")
    assert outliers(block, 3, "block") != outliers(scaled, 3, "block")
    assert outliers([a * 7 for a in block], 3, "block") == outliers(block, 3, "block")


def test_products_are_weights_times_feature_norms_over_tokens_without_padding():
    loop = full_loop(blocks=2)
    seen, layer = [], loop.policy.model.model.layers[0].mlp.gate_proj
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].double()))
    found = measured(loop, 100)["model.layers.0"]
    handle.remove()
    lengths = torch.as_tensor(loop.table.lengths)
    assert sum(len(x.flatten(0, -2)) for x in seen) > int(lengths.sum()), "some padding is to be left out"
    alone = torch.zeros(32, dtype=torch.float64)
    from tunewright.data.batches import collate

    for index in range(len(loop.table)):
        one = []
        handle = layer.register_forward_pre_hook(lambda module, inputs, one=one: one.append(inputs[0].double()))
        with torch.no_grad():
            loop.policy.hidden(collate(loop.table, [index]))
        handle.remove()
        alone += one[0][0].square().sum(0)
    wanted = layer.weight.double().abs() * alone.sqrt()
    gate = next(a for a in found if torch.allclose(a.double(), wanted, rtol=1e-4))
    assert gate.shape == layer.weight.shape


def test_probabilities_sum_to_one_and_reverse():
    loop = full_loop()
    usual, turned = (Owlore(threshold=3, by=by).probabilities(loop, NAMES) for by in ("outliers", "reversed"))
    assert usual.sum() == pytest.approx(1) and turned.sum() == pytest.approx(1)
    assert np.argsort(usual).tolist() == np.argsort(-turned).tolist()
    assert Owlore(threshold=1000).probabilities(loop, NAMES).tolist() == [0.125] * 8
    raised = Owlore(threshold=3, floor=0.1).probabilities(loop, NAMES)
    assert (
        raised.sum() == pytest.approx(1) and raised.min() >= np.maximum(usual, 0.1).min() / np.maximum(usual, 0.1).sum()
    )


def test_draws_follow_successive_sampling():
    p = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02])
    rng = np.random.default_rng(0)
    counts = np.zeros(8)
    for _ in range(20_000):
        counts[drawn(p, 3, rng)] += 1
    assert counts / 20_000 == pytest.approx([0.728, 0.582, 0.474, 0.340, 0.340, 0.279, 0.181, 0.075], abs=0.011)


def test_blocks_without_a_chance_are_drawn_only_when_too_few_have_one():
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.5, 0, 0])
    assert all(set(drawn(p, 2, rng)) == {0, 1} for _ in range(50))
    found = [drawn(p, 3, rng) for _ in range(50)]
    assert all({0, 1} < set(each) for each in found)
    assert {2, 3} == {number for each in found for number in each} - {0, 1}


def test_uniform_is_lisa():
    loop = full_loop()
    owlore, lisa = Owlore(by="uniform", blocks=2, every=20).hook(), Lisa().hook()
    assert all(owlore.chosen(loop, turn) == lisa.chosen(loop, turn) for turn in range(50))


def test_probabilities_are_measured_once():
    loop = full_loop(Owlore(threshold=3, blocks=2, every=1))
    loop.advance(1)
    first = loop.hooks[0].probabilities.tolist()
    loop.advance(3)
    again = Owlore(threshold=3, blocks=2).hook()
    again.load_state(loop.hooks[0].state())
    assert loop.hooks[0].probabilities.tolist() == first == again.probabilities.tolist()
