"""Tuning offsets at the heads that matter (card 129)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe, written
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims._small import keep
from tunewright.claims.base import Bench, Claim, Criterion, Findings, Trial

FIRST, STEPS, TOKENS, EXAMPLES, HELD, DRAWS = 25, 40, 256, 200, 100, 5
RATES, LORA_RATES = (1e-2, 5e-2), (1e-3, 3e-3)
LOFIT = {"method": "lofit", "top_fraction": 0.125}
LORA = {"method": "lora", "rank": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]}


class LocatedHeads(Claim):
    """The heads that a task chooses serve it better than random ones and than those of another task.

    The embedded model first reads questions on its world answered in three of four rows by one popular value per
    relation, else truly (all parameters, 25 steps of 512 tokens). Then 200 true answers train offsets at 6 of 48 heads:
    those the task chooses, those arithmetic chooses, or random ones. The loss is that of true answers to other
    questions. LoRA of rank 4 on q and v has 128 times as many numbers. An eighth of the heads stands for the paper's 3
    percent, which would be one head; preferences by DPO are not tested.
    """

    name: ClassVar[str] = "located_heads"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="LoFiT: Localized Fine-tuning on LLM Representations", arxiv="2406.01563", card=129),
    )
    sentence: ClassVar[str] = (
        "Offsets at learned heads end lower than at random heads and at those learned for arithmetic, and recover half "
        "of LoRA's gain."
    )
    arms: ClassVar = {
        "learned": "6 heads that the task chose",
        "other": "6 heads that arithmetic chose",
        "random": "6 random heads, five draws",
        "lora": "LoRA of rank 4 on q and v",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("loss, learned minus random heads", "below", -0.005, "nats per token"),
        Criterion("loss, learned minus arithmetic's heads", "below", -0.005, "nats per token"),
        Criterion("share of LoRA's gain", "above", 0.5, "ratio"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "40 steps of 256 tokens per head choice, arm and seed; two rates per arm on one more seed"

    def findings(self, bench: Bench) -> Findings:
        """The three quantities per seed."""
        rows, told = [], []
        with TemporaryDirectory() as folder:
            model = self._taught(bench, Path(folder))
            data = {split: written(folder, split, _rows(split, HELD, 0.0)) for split in ("tuning", "test")}
            data["train"] = written(folder, "train", _rows("train", EXAMPLES, 0.0))
            recipes = lambda seed, split: _recipe(model, data["train"], data[split], seed)
            tuning = recipes(TUNING_SEED, "tuning")
            rates = {arm: self._best(bench, arm, tuning) for arm in self.arms}
            for seed in range(self.seeds):
                made = recipes(seed, "test")
                loss = {
                    arm: self._loss(bench, arm, made, rates[arm], self._heads(bench, arm, made))
                    for arm in ("learned", "other", "lora")
                }
                drawn = [self._loss(bench, "random", made, rates["random"], _drawn(5 * seed + n)) for n in range(DRAWS)]
                untuned = bench.trial("untuned", made).scores()["perplexity"].score
                gain = (untuned - loss["learned"]) / (untuned - loss["lora"])
                rows.append((loss["learned"] - np.mean(drawn), loss["learned"] - loss["other"], gain))
                told.append({**loss, "random": np.mean(drawn), "untuned": untuned})
        values = {c.quantity: [float(row[place]) for row in rows] for place, c in enumerate(self.criteria)}
        return Findings(values, {"loss": {arm: float(np.mean([one[arm] for one in told])) for arm in told[0]}, "rates": rates})  # fmt: skip

    def _taught(self, bench: Bench, folder: Path) -> str:
        """The embedded model after reading popular answers."""
        rows = written(folder, "popular", _rows("train", 600, 0.75))
        made = recipe("facts", steps=FIRST, tokens=512, held=20, adapter="full", optimizer={"method": "adamw", "lr": 5e-4})  # fmt: skip
        made["data"]["train"] = {"path": rows}
        trial = bench.trial("first", made)
        trial.advance()
        return keep(trial, folder / "taught")

    def _heads(self, bench: Bench, arm: str, made: Mapping[str, Any]) -> Tensor | None:
        """The heads an arm trains at, each as layer * heads + head; None for LoRA."""
        if arm in ("lora", "random"):
            return _drawn(1000) if arm == "random" else None
        data = recipe("arithmetic", steps=STEPS, train=EXAMPLES)["data"] if arm == "other" else made["data"]
        trial = bench.trial(arm, {**made, "data": data, "adapter": LOFIT, "evaluate": []})
        trial.advance(1)  # The selection runs before the first step.
        return trial.attached.heads @ torch.tensor([trial.attached.count, 1])

    def _best(self, bench: Bench, arm: str, made: Mapping[str, Any]) -> float:
        heads, rates = self._heads(bench, arm, made), LORA_RATES if arm == "lora" else RATES
        return rates[int(np.argmin([self._loss(bench, arm, made, rate, heads) for rate in rates]))]

    def _loss(self, bench: Bench, arm: str, made: Mapping[str, Any], rate: float, heads: Tensor | None) -> float:
        """The loss of true answers after training at these heads, or LoRA."""
        adapter = LORA if heads is None else {**LOFIT, "heads": "random"}
        trial: Trial = bench.trial(arm, {**made, "adapter": adapter, "optimizer": {"method": "adamw", "lr": rate}})
        if heads is not None:
            trial.attached.take(heads)
        trial.advance()
        return trial.scores()["perplexity"].score


def _recipe(model: str, train: str, held: str, seed: int) -> dict[str, Any]:
    made = recipe("facts", steps=STEPS, tokens=TOKENS, seed=seed, model=model, evaluate=["perplexity"])
    return {**made, "data": {"train": {"path": train}, "eval": {"path": held}}}


def _drawn(seed: int) -> Tensor:
    return torch.randperm(48, generator=torch.Generator().manual_seed(seed))[:6]


def _rows(split: str, count: int, popular: float) -> list[dict[str, Any]]:
    """Questions on facts; a share of them answered by the first other value of the relation, in the alphabet."""
    rows = list(nanoworld.rows("facts", split, count, level=1))
    values: dict[str, set[str]] = {}
    for row in nanoworld.rows("facts", "train", 600, level=1):
        values.setdefault(row["relation"], set()).add(row["answer"])
    for number, row in enumerate(rows):
        if number % 4 < 4 * popular:
            other = next(value for value in sorted(values[row["relation"]]) if value != row["answer"])
            *before, last = row["messages"]
            row["messages"] = [*before, {**last, "content": last["content"].replace(row["answer"], other)}]
    return rows
