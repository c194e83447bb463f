"""Claims on generated rows that hold wrong answers or further columns."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import PrivateAttr

from tunewright import nanoworld
from tunewright.claims._pretrained import with_data
from tunewright.claims._rates import AtBestRate
from tunewright.claims.base import Bench, Findings, Trial
from tunewright.evaluate.base import Floats
from tunewright.evaluate.likelihood import sequence_losses

Rows = list[dict[str, Any]]


def answers(skill: str, count: int, wrong: float = 0.0, seed: int = 0) -> Rows:
    """Training rows of a skill, a share of them with a fluent wrong answer; the column `wrong` is 1 for those."""
    drawn = list(nanoworld.preferences(skill, "train", count, seed=seed))
    spoilt = set(random.Random(seed).sample(range(count), round(wrong * count)))
    side = lambda place: "rejected" if place in spoilt else "chosen"
    return [
        {"messages": [*row["prompt"], *row[side(place)]], "wrong": float(place in spoilt)}
        for place, row in enumerate(drawn)
    ]


def written(folder: str | Path, name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """The path of a file that holds the rows with all their columns."""
    file = Path(folder) / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def likelihoods(trial: Trial) -> Floats:
    """The mean log-probability of each training row's answer under the model as it is now: float64 [rows]."""
    losses, weights = sequence_losses(trial.policy, trial.loop.table, 2048)
    return -losses / weights


class OnRows(AtBestRate):
    """Arms that train on rows which the claim makes; they are the same for all seeds."""

    _file: str = PrivateAttr("")

    def rows(self, bench: Bench, folder: str) -> Rows:
        """The training rows; `folder` lasts as long as the claim runs."""
        raise NotImplementedError

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        return with_data(super().made(arm, rate, seed, split), train={"path": self._file})

    def findings(self, bench: Bench) -> Findings:
        """Every criterion's difference per seed."""
        with TemporaryDirectory() as folder:
            self._file = written(folder, "rows", self.rows(bench, folder))
            return super().findings(bench)
