"""Heavier tokens where a right answer differs from a near miss (card 259)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._answers import OnRows, Rows, written
from tunewright.claims._nano import recipe
from tunewright.claims._pretrained import with_data
from tunewright.claims.base import Bench, Criterion, Trial

STEPS, ROWS, HELD, LEVEL = 45, 200, 200, 4
OTHER = {"+": "-", "-": "+", "*": "+", "%": "*", ">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "!=", "!=": "=="}
OPERATOR = re.compile(r"(?<= )(?:[-+*%<>]|[<>=!]=)(?= )")


class FaultWeights(OnRows):
    """Heavier operators, the more so the less the model prefers them to wrong ones, lead to more right programs.

    Short Python functions over lists, of a level that the embedded model has to learn: LoRA for 45 steps of 512 tokens of
    200 pairs of a right program and one with a single operator exchanged. All arms see the same pairs; SFT has scale 0,
    the fixed weight is 2 wherever the programs differ. An answer is right when it passes the tests; an operator error is
    one that differs from the reference in operators alone. On all levels, where SFT itself gains nothing, eight seeds gave
    1.5 points [0.1, 2.8]. A first run there asked for any gain at all, which no number of seeds can refuse where there is
    none; two points are asked for since, and one point fewer errors. Marking by lines, and near misses from a teacher, are
    not tested.
    """

    name: ClassVar[str] = "fault_weights"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="FAIT: Fault-Aware Fine-Tuning for Better Code Generation", arxiv="2503.16913", card=259),
    )
    sentence: ClassVar[str] = (
        "Each at the better of two rates, FAIT ends with two points more right programs and one point fewer operator errors "
        "than SFT, and no fewer right programs than a fixed weight of 2."
    )
    arms: ClassVar = {
        "sft": "all tokens alike",
        "fixed": "weight 2 where a near miss differs",
        "fait": "weight 1 to 3, by how little the model prefers the right tokens",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("right programs, FAIT minus SFT", "above", 0.02, "share"),
        Criterion("operator errors, FAIT minus SFT", "below", -0.01, "share"),
        Criterion("right programs, FAIT minus fixed weight", "above", -0.02, "share"),
    )
    seeds: ClassVar[int] = 8
    budget: ClassVar[str] = "45 steps of 512 tokens, two rates on one seed, then eight seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe("functions", steps=STEPS, tokens=512, evaluate=["exact_match"])
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    tuned_by: ClassVar[str] = "exact_match"
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sft": {"objective": {"method": "fait", "granularity": "token", "scale": 0.0}},
        # So steep that the largest weight is reached whatever the model prefers.
        "fixed": {"objective": {"method": "fait", "granularity": "token", "scale": 1e9, "w_max": 2.0}},
        "fait": {"objective": {"method": "fait", "granularity": "token"}},
    }
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "right programs, FAIT minus SFT": ("right", "fait", "sft"),
        "operator errors, FAIT minus SFT": ("operator", "fait", "sft"),
        "right programs, FAIT minus fixed weight": ("right", "fait", "fixed"),
    }

    _held: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def rows(self, bench: Bench, folder: str) -> Rows:
        """Pairs of a right program and a near miss that fails its tests; those held out are written too."""
        drawn = lambda split, count: nanoworld.rows("functions", split, count, level=LEVEL)
        self._held = {split: written(folder, split, drawn(split, HELD)) for split in ("tuning", "test")}
        rng, found = random.Random(0), []
        for row in drawn("train", 3 * ROWS):
            *before, last = row["messages"]
            places = list(OPERATOR.finditer(last["content"]))
            if not places:
                continue
            place = rng.choice(places)
            wrong = last["content"][: place.start()] + OTHER[place[0]] + last["content"][place.end() :]
            if not nanoworld.verify(row, wrong):
                found.append({"prompt": before, "chosen": [last], "rejected": [{**last, "content": wrong}]})
        return found[:ROWS]

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        return with_data(super().made(arm, rate, seed, split), eval={"path": self._held[split]})

    def scored(self, bench: Bench, arm: str, trial: Trial) -> dict[str, float]:
        """The shares of right programs and of operator errors."""
        scores = trial.scores()["exact_match"]
        asked = nanoworld.rows("functions", "test", len(scores.answers), level=LEVEL)
        right = [nanoworld.verify(row, answer) for row, answer in zip(asked, scores.answers, strict=True)]
        blank = lambda text: OPERATOR.sub("?", text)
        close = [blank(a) == blank(b) for a, b in zip(scores.answers, scores.references, strict=True)]
        return {"right": float(np.mean(right)), "operator": float(np.mean(np.array(close) & ~np.array(right)))}
