"""HFT: which half trains."""

import pytest
from layer_runs import full_loop, spent

from tunewright.optimize.layers import HFT
from tunewright.optimize.layers._drawn import blocks_of


def names(blocks=8):
    loop = full_loop(blocks=blocks)
    return {name: p.ndim for name, p in loop.attached.trained().items()}, loop.attached.trained()


@pytest.mark.parametrize("level", ["category", "block", "model"])
def test_exactly_half_of_the_block_parameters_train(level):
    dimensions, trained = names()
    picked = HFT(level=level).selected(dimensions, 0)
    matrices = {name for name in trained if "layers" in name and trained[name].ndim > 1}
    if level == "model":
        assert len(picked) == len([name for name in trained if "layers" in name]) // 2
    else:
        half = sum(trained[name].numel() for name in matrices) / 2
        assert sum(trained[name].numel() for name in matrices & picked) == half
    assert all("layers" in name for name in picked)


def test_each_block_trains_two_of_attention_one_or_two_of_three_and_one_norm():
    dimensions, _ = names()
    found = blocks_of(HFT().selected(dimensions, 0))
    assert len(found) == 8
    sizes = {
        block: [sum(key in n for n in own) for key in ("self_attn", "mlp.", "norm")] for block, own in found.items()
    }
    assert all(size[0] == 2 and size[2] == 1 for size in sizes.values())
    assert sorted(size[1] for size in sizes.values()) == [1] * 4 + [2] * 4


def test_an_odd_number_of_blocks_trains_a_little_less():
    dimensions, _ = names(blocks=7)
    picked = HFT().selected(dimensions, 0)
    assert sum("mlp." in name for name in picked) == 10


def test_stages_and_seeds_draw_anew_and_the_same_seed_the_same():
    dimensions, _ = names()
    one = HFT().selected(dimensions, 0)
    assert one == HFT().selected(dimensions, 0)
    assert one != HFT(stage=1).selected(dimensions, 0)
    assert one != HFT().selected(dimensions, 1)


def test_what_is_outside_the_blocks_trains_on_request():
    dimensions, _ = names()
    more = HFT(outside=True).selected(dimensions, 0) - HFT().selected(dimensions, 0)
    assert more == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


def test_half_the_gradients_and_state_and_a_third_less_of_the_backward_products():
    full, half = spent(full_loop()), spent(full_loop(HFT(outside=True)))
    assert half[1] < full[1] and half[2] < 0.7 * full[2] and half[3] < 0.7 * full[3]
    model = full_loop().policy.model
    matrices = sum(p.numel() for n, p in model.named_parameters() if "layers" in n and p.ndim > 1)
    tokens = full_loop().batches(0)[0].ids.numel()
    assert full[0] - half[0] == pytest.approx(matrices * tokens)
