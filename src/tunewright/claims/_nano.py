"""Recipes on the embedded model, small enough for a claim."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def recipe(skill: str, *, steps: int, tokens: int = 2048, train: int = 800, held: int = 150, seed: int = 0, **changes: Any) -> dict[str, Any]:  # fmt: skip
    """LoRA of rank 16 on rows of a skill: `steps` of `tokens` tokens each in float32; `changes` replace sections."""
    made: dict[str, Any] = {
        "model": "nano",
        "data": {
            "train": {"path": f"nano:{skill}/train", "limit": train},
            "eval": {"path": f"nano:{skill}/test", "limit": held},
        },
        "adapter": {"method": "lora", "rank": 16, "alpha": 32},
        "optimizer": {"method": "adamw", "lr": 3e-3},
        "train": {"steps": steps, "tokens_per_step": tokens, "seed": seed, "precision": "fp32", "rehearsal": False},
        "evaluate": [],
    }
    return {**made, **changes}


def written(folder: str | Path, name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """The path of a file that holds the rows."""
    file = Path(folder) / f"{name}.jsonl"
    kept = ({"messages": row["messages"]} for row in rows)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
    return str(file)
