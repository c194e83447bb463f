"""Tiny random models of several architectures, a tokenizer of whole words, and records, for the evaluation tests."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from tunewright.data.records import Record, Turn
from tunewright.data.templates import Renderer
from tunewright.evaluate.base import Rows, Subject
from tunewright.models.policy import Policy
from tunewright.recipe import Reading

VOCABULARY = 97
NAMED = ["<pad>", "<s>", "</s>", "<unk>", "Label", ":", "User", "Assistant", "positive", "negative", "neutral", "####"]
WORDS = [*NAMED, *map(str, range(20))]
WORDS += [f"w{n}" for n in range(len(WORDS), VOCABULARY)]

ALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", LLAMA),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
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


def build(name: str = "llama", seed: int = 0) -> Any:
    """A tiny random causal language model, the same weights for the same seed."""
    prefix, options = ARCHITECTURES[name]
    config = getattr(transformers, f"{prefix}Config")(**{**ALL, **options})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            # Larger weights than the usual start: answers then depend on the whole prompt.
            if parameter.ndim > 1:
                parameter.data.normal_(0.0, 0.25)
    return model


def policy(name: str = "llama", seed: int = 0) -> Policy:
    return Policy(build(name, seed), plain_head=name not in ("gemma2", "granite"))


def tokenizer() -> Any:
    """Words apart by blanks; no special tokens are put around a text."""
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def pair(prompt: str, completion: str, line: int = 1, **more: Any) -> Record:
    """A record of prompt and completion, joined verbatim."""
    turns = (Turn("user", prompt), Turn("assistant", completion))
    return Record(turns, "completion", file="rows.jsonl", line=line, **more)


def pairs(count: int, seed: int = 0) -> list[Record]:
    """Random prompts of different lengths, each with a random answer."""
    rng = torch.Generator().manual_seed(seed)
    draw = lambda n: " ".join(WORDS[i] for i in torch.randint(40, VOCABULARY, (n,), generator=rng).tolist())
    sizes = torch.randint(1, 12, (count, 2), generator=rng).tolist()
    return [pair(draw(a), " " + draw(b), line) for line, (a, b) in enumerate(sizes, 1)]


def subject(records: list[Record], model: Policy | None = None, **options: Any) -> Subject:
    """A subject over records, rendered verbatim."""
    own = tokenizer()
    rows = Rows(records, (Renderer(own, Reading()),), None, ("rows",))
    return Subject(model or policy(), own, rows, **{"stop": frozenset({2}), **options})
