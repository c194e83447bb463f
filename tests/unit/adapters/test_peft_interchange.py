"""Adapters in PEFT's format, both directions, with equal logits."""

import json

import pytest

from tunewright.adapters import LoRA
from tunewright.adapters._peft import load_peft, save_peft
from tunewright.errors import BadInput
from tunewright.testing.adapters import assert_equal
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, bits, differing_bits, disturb, logits_of, tiny_policy
from tunewright.testing.tables import random_table

peft = pytest.importorskip("peft")

TABLE = random_table()
METHODS = {
    "plain": ("llama", LoRA(rank=4, alpha=6.0)),
    "stabilized": ("llama", LoRA(rank=3, alpha=6.0, rank_stabilized=True)),
    "ranks": ("llama", LoRA(rank=4, ranks={"down_proj": 2, "q_proj": 3})),
    "conv1d": ("gpt2", LoRA(rank=4)),
    "some layers": ("phi", LoRA(rank=4, target_modules=("q_proj", "fc1"), dropout=0.25)),
    "whole modules": ("llama", LoRA(rank=4, train_modules=("lm_head",))),
}


def trained(architecture, method):
    policy = tiny_policy(tiny(architecture))
    attached = attach(method, policy)
    disturb(attached)
    return policy, attached


@pytest.mark.parametrize("name", METHODS)
def test_what_we_save_peft_loads(name, tmp_path):
    architecture, method = METHODS[name]
    policy, attached = trained(architecture, method)
    save_peft(tmp_path / "a", attached.as_lora(), "base")
    theirs = tiny_policy(peft.PeftModel.from_pretrained(tiny(architecture), str(tmp_path / "a")).get_base_model())
    assert_equal(logits_of(policy, TABLE), logits_of(theirs, TABLE), 1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_what_we_save_we_load(name, tmp_path):
    architecture, method = METHODS[name]
    policy, attached = trained(architecture, method)
    save_peft(tmp_path / "a", attached.as_lora(), "base")
    again = tiny_policy(tiny(architecture))
    loaded = load_peft(tmp_path / "a", again.model)
    assert_equal(logits_of(policy, TABLE), logits_of(again, TABLE), 1e-5)
    assert not differing_bits(attached.state(), loaded.state())


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {"target_modules": "all-linear"}),
        ("llama", {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
        ("llama", {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
        ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
    ],
)  # fmt: skip
def test_what_peft_saves_we_load(architecture, options, tmp_path):
    config = peft.LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", init_lora_weights=False, **options)
    theirs = peft.get_peft_model(tiny(architecture), config)
    theirs.save_pretrained(tmp_path / "a")
    policy = tiny_policy(tiny(architecture))
    before = bits(policy.model)
    attached = load_peft(tmp_path / "a", policy.model)
    assert_equal(logits_of(tiny_policy(theirs.eval().get_base_model()), TABLE), logits_of(policy, TABLE), 1e-5)
    attached.detach()
    assert not differing_bits(before, bits(policy.model))


@pytest.mark.parametrize("option", [{"use_dora": True}, {"bias": "lora_only"}, {"peft_type": "IA3"}])
def test_what_changes_the_formula_is_refused(option, tmp_path):
    _, attached = trained("llama", LoRA(rank=4))
    save_peft(tmp_path / "a", attached.as_lora(), "base")
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **option}))
    with pytest.raises(BadInput, match=next(iter(option))):
        load_peft(tmp_path / "a", tiny())


def test_damaged_files_are_refused(tmp_path):
    _, attached = trained("llama", LoRA(rank=4))
    save_peft(tmp_path / "a", attached.as_lora(), "base")
    with pytest.raises(BadInput):
        load_peft(tmp_path / "a", tiny("gpt2"))
    weights = tmp_path / "a" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BadInput, match="cannot be read"):
        load_peft(tmp_path / "a", tiny())
    with pytest.raises(BadInput, match="not an adapter in PEFT format"):
        load_peft(tmp_path / "absent", tiny())
