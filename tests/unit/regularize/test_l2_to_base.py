"""The squared distance from the base, on low-rank layers and on whole weights."""

import pytest
import torch

from tunewright.adapters import Full, LoRA
from tunewright.errors import BadInput
from tunewright.recipe import Recipe
from tunewright.regularize import L2ToBase
from tunewright.testing.models import tiny
from tunewright.testing.runs import disturb, tiny_loop


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("low", [True, False])
def test_it_is_the_distance_of_the_merged_weights(low, architecture):
    norm = {"llama": "norm", "gpt2": "ln_f"}[architecture]
    adapter = LoRA(rank=4, alpha=6.0, train_modules=(norm,)) if low else Full()
    model = tiny(architecture)
    before = {name: value.double().clone() for name, value in model.state_dict().items()}
    loop = tiny_loop({"adapter": adapter}, model=model)
    disturb(loop.attached)
    found = L2ToBase(strength=0.3).hook().penalty(loop)
    loop.attached.merge()
    after, distance = loop.attached.plain_weights(), 0.0
    seen = set()  # tied weights count once
    for name, value in after.items():
        if value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            distance += (value.double() - before[name]).square().sum().item()
    assert found.item() == pytest.approx(0.3 / 2 * distance, rel=1e-4)


def test_gradient_is_strength_times_the_displacement():
    loop = tiny_loop({"adapter": Full(train_modules=("norm",))})
    trained = loop.attached.trained()
    before = {name: p.detach().clone() for name, p in trained.items()}
    disturb(loop.attached)
    L2ToBase(strength=0.3).hook().penalty(loop).backward()
    for name, parameter in trained.items():
        assert torch.allclose(parameter.grad, 0.3 * (parameter.detach() - before[name]), rtol=1e-5, atol=1e-8)


def test_at_the_base_it_is_zero_and_holds_no_copy():
    loop = tiny_loop({"adapter": Full()})
    hook = L2ToBase().hook()
    assert hook.penalty(loop).item() == 0
    originals = {value.data_ptr() for value in loop.attached.whole.originals.values()}
    assert {base.data_ptr() for _, base in hook.whole} == originals


def test_what_is_no_weight_of_the_model_is_refused():
    loop = tiny_loop()
    loop.policy.model.extra = torch.nn.Parameter(torch.ones(3))
    usual = loop.attached.trained()
    loop.attached.trained = lambda: {**usual, "extra": loop.policy.model.extra}
    with pytest.raises(BadInput, match="'extra' is no weight of the model itself"):
        L2ToBase().hook().penalty(loop)


def test_an_update_that_begins_elsewhere_is_refused_before_anything_is_loaded():
    keys = {"model": "nano", "data": "rows.jsonl", "regularize": ["l2_to_base"]}
    with pytest.raises(BadInput, match="wants the adapter to be anchored; 'pissa' is not") as refused:
        Recipe.of(**keys, adapter="pissa")
    assert "full" in str(refused.value) and "lora" in str(refused.value)
    with pytest.raises(BadInput, match="wants the quantizer to be plain; 'lq_lora' is not"):
        Recipe.of(**{**keys, "model": {"path": "nano", "quantize": "lq_lora"}})
