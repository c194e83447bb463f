"""Model repositories of the hub: which revision is loaded, and whether their code may run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tunewright import network
from tunewright.errors import BadInput
from tunewright.models.load import describe, load, load_tokenizer
from tunewright.recipe import ModelSpec
from tunewright.testing.models import tiny, tiny_folder, tiny_tokenizer

NAME = "owner/tiny"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository as earlier downloads keep it: the branch main, and an older commit tagged v1."""
    root = tmp_path / "hub" / "models--owner--tiny"
    for branch, commit, seed, context in (("main", "b" * 40, 1, 128), ("v1", "a" * 40, 2, 64)):
        tiny_folder(root / "snapshots" / commit, seed=seed, max_position_embeddings=context)
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / branch).write_text(commit)
    for commit, text in (("a" * 40, "old"), ("b" * 40, "new")):
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = text
        tokenizer.save_pretrained(root / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(network, "_reachable", lambda endpoint: False)


def first_weight(spec):
    return load(spec).policy.model.get_input_embeddings().weight[0, 0].item()


def test_the_revision_that_is_named_is_loaded(hub):
    main, old = ModelSpec(path=NAME), ModelSpec(path=NAME, revision="v1")
    assert first_weight(main) == tiny(seed=1).get_input_embeddings().weight[0, 0].item()
    assert first_weight(old) == tiny(seed=2).get_input_embeddings().weight[0, 0].item()
    assert first_weight(ModelSpec(path=NAME, revision="a" * 40)) == first_weight(old)
    assert (load_tokenizer(main).chat_template, load_tokenizer(old).chat_template) == ("new", "old")
    assert (describe(main)[0], describe(old)[0]) == (128, 64)
    scratch = load(old.model_copy(update={"from_scratch": True}))
    assert scratch.context == 64


def test_a_revision_that_is_not_there(hub):
    with pytest.raises(BadInput, match=r"cannot be reached, and 'owner/tiny' is not there"):
        load_tokenizer(ModelSpec(path=NAME, revision="v9"))


CONFIGURATION = """
from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "own_model"
"""

MODELING = """
from transformers import LlamaForCausalLM

from .configuration_own import OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
    is_own = True
"""


@pytest.fixture
def with_code(tmp_path, monkeypatch):
    """A folder whose model is a class of its own."""
    folder: Path = tiny_folder(tmp_path / "own")
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own_model",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return folder


def test_code_of_a_repository_runs_only_where_it_is_trusted(with_code):
    for refused in (describe, load):
        for scratch in (False, True):
            with pytest.raises(BadInput, match="trust_remote_code: true"):
                refused(ModelSpec(path=str(with_code), from_scratch=scratch))
    trusted = ModelSpec(path=str(with_code), trust_remote_code=True)
    made = load(trusted)
    assert made.policy.model.is_own
    assert torch.equal(made.policy.model.get_input_embeddings().weight, tiny().get_input_embeddings().weight)
    assert load(trusted.model_copy(update={"from_scratch": True})).policy.model.is_own
    assert describe(trusted) == (128, 97)
