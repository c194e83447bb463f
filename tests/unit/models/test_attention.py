"""Attention in float32 computes what the model's own attention computes."""

import pytest
import torch

from tunewright import adapters
from tunewright.models.attention import NAME, use_float32
from tunewright.models.policy import cross_entropy
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, differs, gradient, layouts, tiny_policy, usual_parts
from tunewright.testing.tables import random_table

TABLE = random_table()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "gpt2", "gpt_neox", "phi", "granite"])
@pytest.mark.parametrize("way", ["1 x all", "packed"])
def test_equals_the_models_own(architecture, way):
    own, ours = tiny_policy(tiny(architecture)), tiny_policy(tiny(architecture))
    use_float32(ours.model)
    assert ours.model.config._attn_implementation == NAME
    [batch] = layouts(TABLE)[way]
    with torch.no_grad():
        assert differs(own(batch, cross_entropy), ours(batch, cross_entropy)) <= 1e-6


def test_bf16_gradients_are_as_good():
    def found(change):
        policy = tiny_policy(tiny(dtype=torch.bfloat16))
        attached = attach(adapters.Full(train_modules=("self_attn",)), policy)
        change(policy.model)
        return gradient(policy, attached, usual_parts()["objective"], layouts(TABLE)["1 x all"])[0]

    exact = tiny_policy()
    attached = attach(adapters.Full(train_modules=("self_attn",)), exact)
    wanted = gradient(exact, attached, usual_parts()["objective"], layouts(TABLE)["1 x all"])[0]
    own, ours = differs(wanted, found(lambda model: None)), differs(wanted, found(use_float32))
    assert ours <= 1.5 * own < 0.15, (ours, own)


def test_a_model_whose_attention_is_fixed_stays_as_it_is():
    model = tiny()
    model.set_attn_implementation("eager")
    use_float32(model)
    assert model.config._attn_implementation == "eager"
