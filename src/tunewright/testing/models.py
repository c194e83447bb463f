"""Tiny random causal language models of many architectures, the same weights every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 97

_ALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
_EQUAL_HEADS = {**_LLAMA, "num_key_value_heads": 4}
_GPT2 = {
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0.0, "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}  # fmt: skip

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _LLAMA),
    "qwen2": ("Qwen2", _LLAMA),
    "mistral": ("Mistral", {**_LLAMA, "sliding_window": 8}),
    "gemma2": ("Gemma2", {**_LLAMA, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "gpt2": ("GPT2", _GPT2),
    "gpt_neox": ("GPTNeoX", _EQUAL_HEADS),
    "phi": ("Phi", _EQUAL_HEADS),
    "opt": ("OPT", {**_EQUAL_HEADS, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "granite": ("Granite", {**_LLAMA, "logits_scaling": 2.0}),
    "cohere": ("Cohere", {**_LLAMA, "logit_scale": 0.25}),
}
"""Name -> (prefix of the transformers classes, configuration)."""

SCALED_HEADS = ("gemma2", "granite", "cohere")
"""Architectures whose logits are not their head applied to the last hidden state."""


def tiny(architecture: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random model of two layers, 32 wide, vocabulary 97, without dropout; `changes` go to its configuration.

    Weights are larger than a usual start, so that logits depend on the whole prompt. The global generator is left as
    it was.
    """
    import transformers

    prefix, options = ARCHITECTURES[architecture]
    config = getattr(transformers, f"{prefix}Config")(**{**_ALL, **options, **changes})
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.2 if parameter.ndim > 1 else 0.05
            mean = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(mean + spread * torch.randn(parameter.shape, generator=generator))
    return model.to(dtype).eval()


def tiny_tokenizer(words: Sequence[str] = ()) -> Any:
    """A tokenizer of single characters with 97 entries, and of whole `words` before them; ids 0, 1, 2 are pad, begin and
    end."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    letters = ["\n", *(chr(code) for code in range(32, 127) if chr(code) not in "^`~")]
    vocabulary = {piece: index for index, piece in enumerate([*special, *words, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*words, "."])), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_folder(folder: Path, architecture: str = "llama", **changes: Any) -> Path:
    """A tiny model with its tokenizer, saved as a pretrained checkpoint in a new folder."""
    tiny(architecture, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
