"""Which layers a pattern names, and which patterns are mistakes."""

import pytest
from torch import nn

from tunewright.errors import BadInput
from tunewright.models.layers import linear_layers, matches, shape_of, targets
from tunewright.testing.models import ARCHITECTURES, tiny

PER_BLOCK = {"llama": 7, "qwen2": 7, "mistral": 7, "gemma2": 7, "granite": 7, "cohere": 7, "gpt2": 4, "gpt_neox": 4,
             "phi": 6, "opt": 6}  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_linear_is_the_body_without_the_head(architecture):
    model = tiny(architecture)
    found = targets(model, "all-linear")
    assert len(found) == 2 * PER_BLOCK[architecture]
    assert model.get_output_embeddings() not in found.values()
    assert found == linear_layers(model)


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        ("q_proj", 2), (("q_proj", "v_proj"), 4), ("self_attn.q_proj", 2), ("*.layers.1.*", 7), ("*layers.0.mlp*", 3),
        ("model.layers.1.mlp.up_proj", 1), (("q_proj", "self_attn.q_proj"), 2), ("*_proj", 14),
    ],
)  # fmt: skip
def test_patterns(patterns, count):
    assert len(targets(tiny(), patterns)) == count


def test_layers_come_in_the_order_of_the_model():
    names = list(targets(tiny(), ("up_proj", "q_proj")))
    assert names == [name for name in linear_layers(tiny()) if name in names]


def test_a_conv1d_layer_is_a_linear_layer_turned_round():
    layers = targets(tiny("gpt2"), "c_fc")
    assert {shape_of(layer) for layer in layers.values()} == {(128, 32)}
    assert shape_of(nn.Linear(3, 5)) == (5, 3)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("q_prj", "no layer matches 'q_prj'.*Did you mean 'q_proj'?"), ("c_attn", "no layer matches 'c_attn'"),
        ("lm_head", "no layer matches"), ("embed_tokens", "no layer matches"), ("", "no layer matches"),
        ((), "names no layer"), (("q_proj", "xyzzy"), "no layer matches 'xyzzy'"),
    ],
)  # fmt: skip
def test_patterns_that_match_nothing(pattern, says):
    with pytest.raises(BadInput, match=says):
        targets(tiny(), pattern)


def test_a_pattern_that_reaches_only_some_blocks_is_a_mistake_unless_it_says_so():
    model = tiny()
    model.model.layers[1].self_attn.qkv = nn.Linear(32, 96)
    with pytest.raises(BadInput, match="only 1 of the model's 2 blocks"):
        targets(model, "qkv")
    assert len(targets(model, "layers.1.self_attn.qkv")) == 1


def test_a_model_without_linear_layers():
    with pytest.raises(BadInput, match="no linear layers"):
        targets(nn.Sequential(nn.LayerNorm(3)), "all-linear")


@pytest.mark.parametrize(
    ("name", "pattern", "whether"),
    [
        ("a.b.c", "c", True), ("a.b.c", "b.c", True), ("a.b.xc", "c", False), ("a.b.c", "b", False),
        ("a.b.c", "*.b.*", True), ("a.b.c", "a.b.c", True), ("a.b.c", "A.b.c", False),
    ],
)  # fmt: skip
def test_matches(name, pattern, whether):
    assert matches(name, pattern) is whether
