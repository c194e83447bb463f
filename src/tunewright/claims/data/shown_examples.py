"""Training with solved examples in the prompt (card 281)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Bench, Criterion, Findings, Trial

SYLLABLES = ("ba", "ko", "mi", "ran", "tel", "vo", "sha", "lin", "du", "per", "gan", "sto")
TEMPLATES = (
    "{PERSON} lives in {TOWN}.",
    "{PERSON} works for {FIRM} and met {PERSON} there.",
    "The river {RIVER} flows through {TOWN}.",
    "{FIRM} has a shop in {TOWN}.",
    "{PERSON} went from {TOWN} to {TOWN} by boat on the {RIVER}.",
    "Nobody in {TOWN} knew who owns {FIRM}.",
    "{PERSON} and {PERSON} swam in the {RIVER}.",
    "It rained all day and nobody came.",
)
STEPS = 30
ROWS = {"train": 300, "tuning": 60, "test": 200}


@cache
def _folder() -> TemporaryDirectory[str]:
    """A folder with tagged sentences; each split has names of its own, made of the same syllables."""
    folder = TemporaryDirectory(prefix="tagged-")
    rng = random.Random("tagged")
    names = ["".join(rng.choices(SYLLABLES, k=rng.choice((2, 3)))).capitalize() for _ in range(1500)]
    names = list(dict.fromkeys(names))
    for place, (split, count) in enumerate(ROWS.items()):
        rows = [json.dumps(_row(rng, names[place::3])) for _ in range(count)]
        (Path(folder.name) / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def _row(rng: random.Random, names: Sequence[str]) -> dict[str, Any]:
    text, spans = "", []
    for part in re.split(r"(\{\w+\})", rng.choice(TEMPLATES)):
        name = rng.choice(names) if part.startswith("{") else part
        if part.startswith("{"):
            spans.append({"start": len(text), "end": len(text) + len(name), "label": part.strip("{}")})
        text += name
    return {"text": text, "spans": spans}


def _arm(k: int, tokens: int, instruction: bool = False) -> dict[str, Any]:
    train = recipe("facts", steps=STEPS, tokens=tokens)["train"]
    return {"train": train, "k": k, "instruction": instruction}


class ShownExamples(AtBestRate):
    """A model trained with solved examples in its prompts tags unseen names better than one trained without.

    Sentences with names of four types, told apart by what stands around them; the names of every split are its own,
    made of the same syllables. LoRA on the embedded model, 30 updates of about as many rows in each arm, so that prompts
    with three examples cost four times the tokens. Answers are held to the format. The untuned model sees three
    examples too. Not tested here: examples chosen by similarity, a classification head, real corpora.
    """

    name: ClassVar[str] = "shown_examples"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Supervised In-Context Fine-Tuning for Generative Sequence Labeling", card=281),
    )
    sentence: ClassVar[str] = (
        "On unseen names training with three examples in the prompt beats training without; the untuned model with "
        "examples finds next to nothing, and leaving out the instruction costs less than 2 points."
    )
    arms: ClassVar = {
        "shown": "three examples",
        "plain": "no examples",
        "instructed": "three examples and an instruction",
        "untuned": "three examples, no training",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("span F1, three examples minus none", "above", 0.0, "points"),
        Criterion("span F1 of the untuned model", "below", 10.0, "points"),
        Criterion("span F1, with minus without instruction", "below", 2.0, "points"),
    )
    seeds: ClassVar[int] = 8
    budget: ClassVar[str] = "30 steps of about 5 rows, two rates on one seed, then eight seeds, per arm"
    recipe: ClassVar[Mapping[str, Any]] = recipe("facts", steps=STEPS)
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "shown": _arm(3, 1000),
        "plain": _arm(0, 250),
        "instructed": _arm(3, 1080, instruction=True),
    }
    rates: ClassVar[Sequence[float]] = (3e-3, 1e-2)

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        change = self.changes[arm]
        shown = {"method": "sift_sequence_labeling", "k": change["k"], "instruction": change["instruction"]}
        path = lambda name: {"path": str(Path(_folder().name) / f"{name}.jsonl")}
        return {
            **self.recipe,
            "data": {"train": path("train"), "eval": path(split), "format": shown},
            "optimizer": {"method": "adamw", "lr": rate},
            "train": {**change["train"], "seed": seed},
            "evaluate": ["perplexity" if split == "tuning" else "span_f1"],
        }

    def findings(self, bench: Bench) -> Findings:
        """Differences of F1 per seed."""
        rates = {arm: self.best(bench, arm) for arm in self.changes}
        found: dict[str, list[float]] = {arm: [] for arm in self.arms}
        for seed in range(self.seeds):
            for arm, rate in rates.items():
                trial = bench.trial(arm, self.made(arm, rate, seed, "test"))
                if arm == "shown":
                    found["untuned"].append(_f1(trial))
                trial.advance()
                found[arm].append(_f1(trial))
        points = {arm: np.array(values) for arm, values in found.items()}
        each = (points["shown"] - points["plain"], points["untuned"], points["instructed"] - points["shown"])
        values = {one.quantity: values.tolist() for one, values in zip(self.criteria, each, strict=True)}
        return Findings(values, {"F1": {arm: float(one.mean()) for arm, one in points.items()}, "rates": rates})


def _f1(trial: Trial) -> float:
    return 100 * trial.scores()["span_f1"].score
