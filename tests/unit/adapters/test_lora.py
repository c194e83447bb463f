"""LoRA: its formula, its numbers, its refusals."""

import pytest
import torch

from tunewright.adapters import LoRA
from tunewright.errors import BadInput
from tunewright.testing.models import tiny
from tunewright.testing.runs import bits, differing_bits, disturb


@pytest.mark.parametrize("stabilized", [False, True])
@pytest.mark.parametrize(("architecture", "layer"), [("llama", "q_proj"), ("gpt2", "c_fc")])
def test_the_formula(architecture, layer, stabilized):
    model = tiny(architecture)
    attached = LoRA(rank=4, alpha=6.0, target_modules=(layer,), rank_stabilized=stabilized).attach(model)
    disturb(attached)
    module = next(iter(attached.layers.values()))
    x = torch.randn(3, 5, 32, dtype=torch.float32)
    scale = 6.0 / (4**0.5 if stabilized else 4)
    update = (x.double() @ module.down.double().T) @ module.up.double().T
    wanted = module.base(x).double() + scale * update
    assert torch.allclose(module(x).double(), wanted, atol=1e-5)


def test_how_it_begins():
    attached = LoRA(rank=4, target_modules=("q_proj",)).attach(tiny())
    for layer in attached.layers.values():
        assert not layer.up.any()
        assert layer.down.abs().max() <= 32**-0.5
        assert layer.down.std().item() == pytest.approx((32 * 3) ** -0.5, rel=0.25)


def test_how_many_numbers_train():
    model = tiny()
    attached = LoRA(rank=4, ranks={"down_proj": 2}).attach(model)
    sizes = {"q_proj": 64, "k_proj": 48, "v_proj": 48, "o_proj": 64, "gate_proj": 80, "up_proj": 80}
    wanted = 2 * (4 * sum(sizes.values()) + 2 * 80)
    assert sum(p.numel() for p in attached.trained().values()) == wanted


def test_dropout_acts_on_the_updates_input_while_training_only():
    model = tiny()
    attached = LoRA(rank=4, dropout=0.5, target_modules=("q_proj",)).attach(model)
    disturb(attached)
    module, x = next(iter(attached.layers.values())), torch.randn(64, 32)
    module.eval()
    assert torch.equal(module(x), module(x))
    module.train()
    updates = torch.stack([module(x) - module.base(x) for _ in range(400)])
    module.eval()
    assert not torch.equal(updates[0], updates[1])
    assert torch.allclose(updates.mean(0), module(x) - module.base(x), atol=0.25)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 17}, "layer 'model.layers.0.self_attn.k_proj' is 16 x 32; found 17, expected a rank of at most 16"),
        ({"rank": 4, "ranks": {"k_proj": 20}}, "found 20, expected a rank of at most 16"),
        ({"rank": 4, "ranks": {"c_attn": 2}}, "no target layer matches 'c_attn'"),
        ({"rank": 4, "target_modules": ("q_proj",), "ranks": {"k_proj": 2}}, "no target layer matches 'k_proj'"),
        ({"rank": 4, "target_modules": ()}, "names no layer"),
        ({"rank": 4, "train_modules": ("nrom",)}, "no module with parameters matches 'nrom'"),
    ],
)
def test_refusals_leave_the_model_as_it_was(options, says):
    model = tiny()
    before = bits(model)
    with pytest.raises(BadInput, match=says):
        LoRA(**options).attach(model)
    assert not differing_bits(before, bits(model))


def test_a_layer_that_trains_whole_may_carry_an_update_too():
    model = tiny()
    before = bits(model)
    attached = LoRA(rank=4, target_modules=("down_proj",), train_modules=("mlp",)).attach(model)
    disturb(attached)
    x = torch.randint(0, 97, (1, 9))
    tuned = model(x).logits
    attached.merge()
    assert torch.allclose(model(x).logits, tuned, atol=1e-4)
    attached.detach()
    assert not differing_bits(before, bits(model))
