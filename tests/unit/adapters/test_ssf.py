"""SSF: the insertion, the exact fold, the checkpoint."""

import pytest
import torch
from torch import nn

from tunewright.adapters import SSF
from tunewright.errors import BadInput
from tunewright.models.quantize._layer import QuantizedLinear
from tunewright.models.quantize.nf4 import NF4
from tunewright.optimize.optimizers.adamw import AdamW
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, bits, differing_bits, differs, disturb, logits_of, tiny_policy
from tunewright.testing.tables import random_table

TABLE = random_table()
WITHOUT = {"gemma2": ("*post_*_layernorm", "norm")}
"""Norms whose output is added to something, which no bias of a linear layer can take."""


def shifted(architecture="llama", **options):
    policy = tiny_policy(tiny(architecture, **options.pop("model", {})))
    made = attach(SSF(**options), policy)
    disturb(made)
    return policy, made


def apart(one, other):
    return max(differs(a, b) for a, b in zip(one, other, strict=True))


def test_ones_and_zeros_are_the_model():
    policy = tiny_policy()
    before = logits_of(policy, TABLE)
    method = SSF(scale_std=0, shift_std=0)
    attach(method, policy)
    assert method.neutral and not SSF().neutral
    assert apart(before, logits_of(policy, TABLE)) < 1e-6


def test_how_it_begins():
    made = attach(SSF(), tiny_policy()).trained()
    scales, shifts = (torch.cat([p for n, p in made.items() if n.endswith(end)]) for end in ("scale", "shift"))
    assert scales.mean().item() == pytest.approx(1.0, abs=2e-3) and scales.std().item() == pytest.approx(0.02, rel=0.1)
    assert shifts.mean().item() == pytest.approx(0.0, abs=2e-3) and shifts.std().item() == pytest.approx(0.02, rel=0.1)


def test_how_many_numbers_train():
    made = attach(SSF(), tiny_policy())
    block = 2 * 32 + (32 + 16 + 16 + 32) + (48 + 48 + 32)  # norms, q k v o, gate up down
    assert sum(p.numel() for p in made.trained().values()) == 2 * (32 + 2 * block + 32)
    only = attach(SSF(insert_after=("norms",), exclude=("model.norm",)), tiny_policy())
    assert sum(p.numel() for p in only.trained().values()) == 2 * (4 * 32)


def test_the_formula_after_a_linear_layer():
    model = tiny()
    layer, x = model.model.layers[1].mlp.up_proj, torch.randn(3, 32)
    plain = layer(x)
    made = attach(SSF(insert_after=("linears",)), tiny_policy(model)).trained()
    g, t = (made[f"model.layers.1.mlp.up_proj.{part}"] for part in ("scale", "shift"))
    assert torch.allclose(layer(x), plain * g + t, atol=1e-6)


def test_vectors_have_no_weight_decay():
    groups = AdamW(weight_decay=0.5).groups(attach(SSF(), tiny_policy()).trained())
    assert [group["weight_decay"] for group in groups] == [0.0]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "gpt_neox", "phi", "opt", "cohere", "gemma2"])
@pytest.mark.parametrize("tied", [False, True])
def test_merging_is_exact_and_keeps_the_modules(architecture, tied):
    model = {"tie_word_embeddings": tied}
    modules = [name for name, _ in tiny(architecture, **model).named_modules()]
    policy, made = shifted(architecture, model=model, exclude=WITHOUT.get(architecture, ()))
    before, tuned = bits(policy.model), logits_of(policy, TABLE)
    made.merge()
    assert apart(tuned, logits_of(policy, TABLE)) < 1e-5
    made.unmerge()
    assert not differing_bits(before, bits(policy.model))
    assert policy.model.config.tie_word_embeddings is tied
    made.detach()
    assert [name for name, _ in policy.model.named_modules()] == modules


def test_a_tied_head_keeps_the_old_rows():
    policy, made = shifted(model={"tie_word_embeddings": True})
    embedding, head = policy.model.get_input_embeddings(), policy.model.get_output_embeddings()
    old = embedding.weight.detach().clone()
    made.merge()
    assert torch.equal(head.weight, old) and not torch.equal(embedding.weight, old)
    made.unmerge()
    assert head.weight is embedding.weight


def test_a_shift_that_is_added_to_the_residual_cannot_be_merged():
    policy, made = shifted("gemma2")
    before = bits(policy.model)
    with pytest.raises(BadInput, match="post_attention_layernorm' has no bias"):
        made.merge()
    assert not differing_bits(before, bits(policy.model))


@pytest.mark.parametrize("tied", [False, True])
def test_the_merged_checkpoint_loads_elsewhere(tied, tmp_path):
    from transformers import AutoModelForCausalLM

    policy, made = shifted(exclude=("model.norm",), model={"tie_word_embeddings": tied})
    tuned = logits_of(policy, TABLE)
    made.merge()
    policy.model.save_pretrained(tmp_path, state_dict=made.plain_weights())
    made.unmerge()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert apart(tuned, logits_of(tiny_policy(again), TABLE)) < 1e-5
    assert not policy.model.config.attention_bias and policy.model.config.tie_word_embeddings is tied


def test_a_checkpoint_without_place_for_the_biases_is_refused():
    _, made = shifted()
    made.merge()
    with pytest.raises(BadInput, match=r"no place for the update's 'lm_head.bias'"):
        made.plain_weights()


def test_quantized_layers_train_and_are_not_merged():
    policy = tiny_policy()
    NF4().apply(policy.model)
    base = logits_of(policy, TABLE)
    made = attach(SSF(), policy)
    assert any(isinstance(policy.model.get_submodule(name), QuantizedLinear) for name in made.inserted)
    assert apart(base, logits_of(policy, TABLE)) > 1e-4
    with pytest.raises(BadInput, match="quantized"):
        made.merge()
    with made.disabled():
        assert apart(base, logits_of(policy, TABLE)) == 0


def test_convolutions_have_their_channels_second():
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 4)
    )
    net.eval()
    x = torch.randn(2, 3, 6, 6)
    before, plain = bits(net), net(x)
    made = SSF().attach(net)
    disturb(made)
    assert sum(p.numel() for p in made.trained().values()) == 2 * (5 + 5 + 4)
    tuned = net(x)
    first = made.inserted["0"]
    assert torch.allclose(
        first(plain_conv := torch.randn(2, 5, 4, 4))[:, 3], plain_conv[:, 3] * first.scale[3] + first.shift[3]
    )
    made.merge()
    assert torch.allclose(tuned, net(x), atol=1e-5) and not torch.allclose(tuned, plain, atol=1e-2)
    made.detach()
    assert not differing_bits(before, bits(net))


def test_what_is_excluded_must_exist():
    with pytest.raises(BadInput, match="no operation matches 'fc9'"):
        SSF(exclude=("fc9",)).attach(tiny())
    with pytest.raises(BadInput, match="no such operation"):
        SSF(insert_after=("convolutions",)).attach(tiny())
