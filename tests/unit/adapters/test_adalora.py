"""AdaLoRA: the budget, the allocation, the export."""

import pytest
import torch

from tunewright.adapters import AdaLoRA
from tunewright.testing.runs import attach, disturb, tiny_loop, tiny_policy

METHOD = AdaLoRA(rank=6, target_rank=2, begin=2, end=8, every=2)


def run(steps, method=METHOD):
    loop = tiny_loop({"adapter": method}, steps=12)
    loop.advance(steps)
    return loop


def kept(loop):
    return sum(int(layer.values.count_nonzero()) for layer in loop.attached.layers.values())


def test_nothing_changes_at_the_start():
    made = attach(AdaLoRA(), tiny_policy())
    assert all((layer.delta() == 0).all() for layer in made.layers.values())
    assert all(layer.down.std().item() == pytest.approx(0.02, rel=0.2) for layer in made.layers.values())


def test_the_budget_falls_with_the_cube_to_the_target():
    method = AdaLoRA(begin=100, end=600)
    found = [method.budget(t, 120, 80) for t in range(1, 1000)]
    assert found == sorted(found, reverse=True)
    assert (found[99], found[599], found[-1]) == (120, 80, 80)
    assert method.budget(350, 120, 80) == int(80 + 40 * 0.5**3)


@pytest.mark.parametrize("update", [4, 6, 8])
def test_as_many_triplets_stay_as_the_budget_says(update):
    loop = run(update)
    layers = len(loop.attached.layers)
    assert kept(loop) == METHOD.budget(update, 6 * layers, 2 * layers)


def test_the_choice_is_final_at_the_end():
    loop = run(8)
    one = {name: layer.values != 0 for name, layer in loop.attached.layers.items()}
    loop.advance(4)
    assert kept(loop) == 2 * len(one)
    assert all(torch.equal(one[name], layer.values != 0) for name, layer in loop.attached.layers.items())
    ranks = {int(mask.sum()) for mask in one.values()}
    assert len(ranks) > 1, "the budget did not move between layers"


def test_the_highest_scores_stay():
    from tunewright.adapters.low_rank.adalora import scores_of

    loop = run(8)
    scores = {name: scores_of(layer, loop.optimizer) for name, layer in loop.attached.layers.items()}
    stays = torch.cat([scores[n][layer.values != 0] for n, layer in loop.attached.layers.items()])
    goes = torch.cat([scores[n][layer.values == 0] for n, layer in loop.attached.layers.items()])
    assert stays.min() >= goes.max()


def test_scores_against_the_formula():
    method = AdaLoRA(rank=2, beta1=0.5, beta2=0.25)
    made = attach(method, tiny_policy())
    disturb(made)
    optimizer = torch.optim.SGD(made.trained().values(), lr=0.0)
    layer = next(iter(made.layers.values()))
    mean, uncertainty = 0.0, 0.0
    for step in range(3):
        for p in made.trained().values():
            p.grad = torch.full_like(p, float(step + 1))
        made.after_step(optimizer, step)
        now = (layer.values.detach() * (step + 1)).abs()
        mean = 0.5 * mean + 0.5 * now
        uncertainty = 0.25 * uncertainty + 0.75 * (now - mean).abs()
    state = optimizer.state[layer.values]
    assert torch.allclose(state["sensitivity"] * state["uncertainty"], mean * uncertainty)


def test_the_penalty_by_hand():
    made = attach(AdaLoRA(rank=2, orthogonality=0.5), tiny_policy())
    with torch.no_grad():
        for layer in made.layers.values():
            layer.down.zero_()[0, 0] = 2.0
            layer.up.zero_()[0, 0], layer.up[1, 1] = 1.0, 1.0
    assert made.penalty().item() == pytest.approx(0.5 / 2 * (9 + 1) ** 0.5)


def test_the_export_has_the_rank_that_is_left_and_the_same_product():
    loop = run(12)
    export = loop.attached.as_lora()
    for name, layer in loop.attached.layers.items():
        pair, left = export.pairs[name], int(layer.values.count_nonzero())
        assert pair.down.shape[0] == max(1, left)
        product = pair.alpha / pair.down.shape[0] * pair.up @ pair.down
        assert torch.allclose(product, layer.delta(), atol=1e-6)


def test_begin_comes_before_end():
    with pytest.raises(ValueError, match="begin"):
        AdaLoRA(begin=10, end=10)
