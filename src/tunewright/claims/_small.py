"""A decoder small enough to be trained from nothing many times within a claim."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SKILLS = ("storytelling", "facts", "instructions")
"""The rows it reads unless a claim names others."""


def architecture(width: int = 64, layers: int = 2) -> str:
    """A folder with the embedded model's tokenizer and a Llama of `layers` layers, without weights.

    The defaults have 0.23 million parameters, 0.13 of them embeddings. The folder lasts as long as the process.
    """
    return _folder(width, layers).name


@cache
def _folder(width: int, layers: int) -> TemporaryDirectory[str]:
    from tunewright.models.load import load_tokenizer
    from tunewright.nanoworld.embedded import architecture as embedded
    from tunewright.recipe import ModelSpec

    folder = TemporaryDirectory(prefix="small-decoder-")
    load_tokenizer(ModelSpec()).save_pretrained(folder.name)
    config = embedded()
    heads = max(1, width // 32)
    config.update(
        {
            "hidden_size": width, "intermediate_size": 5 * width // 2, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": heads, "dtype": "float32",
        }
    )  # fmt: skip
    config.save_pretrained(folder.name)
    return folder


def recipe(*, steps: int, tokens: int = 512, seed: int = 0, skills: Sequence[str] = SKILLS, lr: float = 3e-3, split: str = "test", **changes: Any) -> dict[str, Any]:  # fmt: skip
    """The small decoder, all parameters trained from random values on every token of the rows; `changes` replace
    sections. Measured by the loss on 50 other rows of each skill."""
    made: dict[str, Any] = {
        "model": {"path": architecture(), "from_scratch": True},
        "data": {
            "sources": [{"path": f"nano:{skill}/train", "limit": 800} for skill in skills],
            "eval": [{"path": f"nano:{skill}/{split}", "limit": 50, "name": skill} for skill in skills],
            "train_on": "all",
        },
        "adapter": "full",
        "optimizer": {"method": "adamw", "lr": lr},
        "schedule": "cosine",
        "train": {"steps": steps, "tokens_per_step": tokens, "seed": seed, "precision": "fp32", "rehearsal": False},
        "evaluate": ["perplexity"],
    }
    return {**made, **changes}


def keep(trial: Any, folder: str | Path) -> str:
    """Writes the trained model of a trial under `folder`, as a model to go on from."""
    from tunewright.models.load import load_tokenizer
    from tunewright.recipe import ModelSpec

    load_tokenizer(ModelSpec()).save_pretrained(folder)
    trial.policy.model.save_pretrained(folder)
    return str(folder)
