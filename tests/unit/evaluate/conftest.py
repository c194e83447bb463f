"""Tiny random models of several architectures, and a tokenizer of whole words, for the evaluation tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from tunewright.models.policy import Policy

VOCABULARY = 97
ALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", LLAMA),
    "gpt2": ("GPT2", GPT2),
    "gpt_neox": ("GPTNeoX", {**LLAMA, "num_key_value_heads": 4}),
    "opt": ("OPT", {**LLAMA, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "mistral_window": ("Mistral", {**LLAMA, "sliding_window": 8}),
    "gemma2": ("Gemma2", {**LLAMA, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "qwen2": ("Qwen2", LLAMA),
    "phi": ("Phi", {**LLAMA, "num_key_value_heads": 4}),
    "granite": ("Granite", {**LLAMA, "logits_scaling": 2.0}),
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("Falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True}),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
}


def build(name: str, **changes: Any) -> Any:
    """A tiny random causal language model, the same weights every time."""
    prefix, options = ARCHITECTURES[name]
    config = getattr(transformers, f"{prefix}Config")(**{**ALL, **options, **changes})
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        # Larger weights than the usual start: answers then depend on the whole prompt.
        if parameter.ndim > 1:
            parameter.data.normal_(0.0, 0.25)
    torch.set_rng_state(state)
    return model


class Words:
    """A tokenizer of `VOCABULARY` words w0, w1, ...; ids 0, 1, 2 are pad, begin and end."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0
    chat_template = None

    def encode(self, text: str, **_: Any) -> list[int]:
        return [3 + sum(word.encode()) * 7 % (VOCABULARY - 3) for word in text.split()]

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        return " ".join(f"w{i}" for i in ids if not (skip_special_tokens and int(i) < 3))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def words() -> Words:
    return Words()


@pytest.fixture(scope="session")
def policy() -> Policy:
    return Policy(build("llama"))
