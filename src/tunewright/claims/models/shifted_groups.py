"""Extending the context with shifted groups (card 89)."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from pydantic import PrivateAttr

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._rates import AtBestRate
from tunewright.claims._small import architecture, keep, recipe
from tunewright.claims.base import Bench, Criterion, Findings

SHORT, LONG = 128, 512
FIRST, STEPS, TOKENS = 400, 60, 2048
EXTRA = ("embed_tokens", "norm", "input_layernorm", "post_attention_layernorm")


def _lora(*modules: str) -> dict[str, Any]:
    projections = ["q_proj", "k_proj", "v_proj", "o_proj"]
    return {"method": "lora", "rank": 8, "alpha": 16, "target_modules": projections, "train_modules": list(modules)}


@cache
def _folder() -> TemporaryDirectory[str]:
    """Long documents, whose second half repeats facts of the first, by split."""
    folder = TemporaryDirectory(prefix="documents-")
    facts = [row["messages"][-1]["content"] for row in nanoworld.rows("facts", "train", 800)]
    for split, count in (("train", 500), ("tuning", 40), ("test", 40)):
        rng = random.Random(f"documents {split}")
        rows = []
        for _ in range(count):
            first = rng.sample(facts, 12)
            rows.append(json.dumps({"text": " ".join([*first, *rng.sample(first, 12)])}))
        (Path(folder.name) / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


class ShiftedGroups(AtBestRate):
    """Tuning with attention in shifted groups extends the context as well as tuning with full attention.

    A decoder of 0.2 million parameters and a context of 128 tokens is trained from nothing for 400 steps, then
    extended to 512 on documents that repeat themselves: with groups of a quarter of the length, which take a quarter of
    the attention's operations, or with full attention; and with LoRA alone. All have rotary frequencies divided by 4, and
    are measured with full attention. The paper's models are 30,000 times as large, read 8,192 tokens and more, and begin
    from a rate of 2e-5, at which a model of this size hardly moves. Not tested here: retrieval, speed.
    """

    name: ClassVar[str] = "shifted_groups"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="LongLoRA: Efficient Fine-tuning of Long-Context Large Language Models", arxiv="2309.12307", card=89
        ),
    )
    sentence: ClassVar[str] = (
        "At the better of two rates the perplexity of shifted groups is within 3 percent of full attention's, and LoRA "
        "without embeddings and norms is worse."
    )
    arms: ClassVar = {
        "groups": "shifted groups; LoRA, embeddings and norms",
        "full": "full attention; LoRA, embeddings and norms",
        "lora": "shifted groups; LoRA alone",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss on long rows, groups minus full attention", "below", 0.03, "nats per token"),
        Criterion("loss on long rows, LoRA alone minus groups", "above", 0.03, "nats per token"),
    )
    seeds: ClassVar[int] = 10
    budget: ClassVar[str] = (
        "400 steps of 1,024 tokens once; 60 of 2,048, two rates on one seed, then ten seeds, per arm"
    )
    recipe: ClassVar[Mapping[str, Any]] = {
        "data": {},
        "optimizer": {"method": "adamw"},
        "train": {"steps": STEPS, "tokens_per_step": TOKENS, "precision": "fp32", "rehearsal": False},
        "evaluate": ["perplexity"],
    }
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "groups": {"adapter": _lora(*EXTRA)},
        "full": {"adapter": _lora(*EXTRA)},
        "lora": {"adapter": _lora()},
    }
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "loss on long rows, groups minus full attention": ("perplexity", "groups", "full"),
        "loss on long rows, LoRA alone minus groups": ("perplexity", "lora", "groups"),
    }
    _models: dict[str, str] = PrivateAttr(default_factory=dict)

    def findings(self, bench: Bench) -> Findings:
        """Every criterion's difference per seed, from one model of short context."""
        with TemporaryDirectory() as folder:
            self._models.update(_short(bench, Path(folder)))
            return super().findings(bench)

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        path = lambda name: {"path": str(Path(_folder().name) / f"{name}.jsonl")}
        groups = {"path": self._models["short"], "context": {"method": "longlora", "length": LONG}}
        return {
            **self.recipe,
            **self.changes[arm],
            "model": {"path": self._models["long"]} if arm == "full" else groups,
            "data": {"train": path("train"), "eval": path(split), "max_length": LONG, "truncation": "right"},
            "optimizer": {"method": "adamw", "lr": rate},
            "train": {**self.recipe["train"], "seed": seed},
        }


def _short(bench: Bench, folder: Path) -> dict[str, str]:
    """The model of short context, and the same with the positions of the long one."""
    begin = folder / "begin"
    shutil.copytree(architecture(), begin)
    _configure(begin, max_position_embeddings=SHORT)
    made = recipe(steps=FIRST, tokens=1024, model={"path": str(begin), "from_scratch": True})
    train = {"path": str(Path(_folder().name) / "train.jsonl")}
    made["data"] = {"sources": [*made["data"]["sources"], train], "eval": made["data"]["eval"], "train_on": "all",
                    "max_length": SHORT, "truncation": "right"}  # fmt: skip
    trial = bench.trial("first", made)
    trial.advance()
    short, long = keep(trial, folder / "short"), folder / "long"
    shutil.copytree(short, long)
    scaled = {"rope_type": "linear", "factor": LONG / SHORT, "rope_theta": 10_000.0}
    _configure(long, max_position_embeddings=LONG, rope_parameters=scaled)
    return {"short": short, "long": str(long)}


def _configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
