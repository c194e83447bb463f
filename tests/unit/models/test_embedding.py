"""Texts as vectors: means of hidden states, whatever stands beside them, of our own model and of others."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers

from tunewright.errors import BadInput
from tunewright.models.embedding import embedder
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny, tiny_folder, tiny_tokenizer
from tunewright.testing.runs import tiny_policy

TEXTS = ["blue", "a longer text of words", "", "red"]


@pytest.fixture(scope="module")
def own():
    policy, tokenizer = tiny_policy(tiny("llama")), tiny_tokenizer()
    off = []

    @contextmanager
    def disabled():
        off.append(True)
        yield

    policy.set_reference(disabled)
    return policy, tokenizer, off


def test_the_model_itself_embeds_with_its_adapter_off(own):
    policy, tokenizer, off = own
    found = embedder(policy, tokenizer)(TEXTS)
    assert off and found.shape == (4, policy.model.config.hidden_size)
    with torch.no_grad():
        for text, vector in zip(TEXTS, found, strict=True):
            ids = tokenizer(text)["input_ids"]
            if ids:
                states = policy.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
                assert vector == pytest.approx(states.double().mean(0).numpy(), abs=1e-5)
            else:
                assert not vector.any()


@pytest.mark.parametrize("encoder", [False, True])
def test_a_named_model_embeds_causal_or_encoder(own, tmp_path, encoder):
    policy, tokenizer, _ = own
    folder = tmp_path / "embedder"
    if encoder:
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.BertConfig(vocab_size=len(tokenizer) + 8, **sizes)
        transformers.BertForMaskedLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        tiny_folder(folder)
    embed = embedder(policy, tokenizer, str(folder))
    together = embed(TEXTS)
    assert np.isfinite(together).all()
    assert together[0] == pytest.approx(embed(TEXTS[:1])[0], abs=1e-5)


def test_what_is_no_model_is_refused(own, tmp_path):
    policy, tokenizer, _ = own
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"supplies.embedder"):
        embedder(policy, tokenizer, str(tmp_path))(["a"])


def test_an_embedder_is_taken_where_a_task_accepts_one():
    keys = {"model": "nano", "data": "nano:sentiment/train", "supplies": {"embedder": "nano"}}
    made = Recipe.of(**keys, evaluate=["prompt_sensitivity"])
    assert Recipe.of(**made.plain()).supplies == {"embedder": "nano"}
    with pytest.raises(BadInput, match="no method of this recipe asks for it"):
        Recipe.of(**keys, evaluate=["perplexity"])
