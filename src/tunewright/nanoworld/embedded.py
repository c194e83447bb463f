"""The embedded base without its weights: tokenizer, template and the architecture that the weights are trained in."""

from __future__ import annotations

from pathlib import Path

from transformers import GenerationConfig, LlamaConfig

from tunewright.nanoworld import tokenizer


def architecture() -> LlamaConfig:
    """A Llama of 8 layers and width 192 with tied embeddings: 3.9 million parameters."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=tokenizer.VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=tokenizer.CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        dtype="bfloat16",
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def build(path: str | Path) -> None:
    """Writes the whole folder except `model.safetensors`: the same bytes every time."""
    tokenizer.build(path)
    config = architecture()
    config.save_pretrained(path)
    stops = {"pad_token_id": config.pad_token_id, "bos_token_id": config.bos_token_id}
    GenerationConfig(**stops, eos_token_id=config.eos_token_id, do_sample=False).save_pretrained(path)
