"""Leading an aligned model (card 298)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewright.catalog import Paper
from tunewright.claims._answers import OnRows, Rows, answers, likelihoods, written
from tunewright.claims._nano import recipe
from tunewright.claims._pretrained import with_data
from tunewright.claims.base import Bench, Criterion, Findings

STEPS, PARTS, ROWS, HELD, WRONG = 48, 3, 200, 450, 0.3


class AlignedLead(OnRows):
    """On rows of which three in ten are wrong, asking for a lead over an aligned model ends with more right answers.

    Reviews to be called positive, negative or mixed: the aligned model is the embedded one after 40 steps on 400 right
    rows, the trained one LoRA on the embedded model for 48 steps of 512 tokens of 200 others. Right answers of 450 rows
    are counted after each third; the fall is the best count minus the last. On translations fourteen seeds gave 0.4 points
    [-0.3, 1.1], where one was asked for. One aligned model, not several; no preference tuning after.
    """

    name: ClassVar[str] = "aligned_lead"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Preference-Oriented Supervised Fine-Tuning: Favoring Target Model Over Aligned Large Language "
            "Models",
            arxiv="2412.12865",
            card=298,
        ),
    )
    sentence: ClassVar[str] = (
        "On rows of which 30% are wrong, each at the better of two rates, PoFT ends with more right answers than SFT and "
        "falls less from its best."
    )
    arms: ClassVar = {"sft": "likelihood", "poft": "lead over the aligned model"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("right answers, PoFT minus SFT", "above", 0.01, "share"),
        Criterion("fall from the best third, PoFT minus SFT", "below", 0.0, "share"),
    )
    seeds: ClassVar[int] = 10
    budget: ClassVar[str] = "48 steps of 512 tokens, two rates on one seed, then ten seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "sentiment", steps=STEPS, tokens=512, held=HELD, evaluate=["exact_match"]
    )
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    tuned_by: ClassVar[str] = "exact_match"
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"sft": {}, "poft": {"objective": "poft"}}

    def rows(self, bench: Bench, folder: str) -> Rows:
        """Noisy rows with their likelihood under the aligned model, which read none of them."""
        rows = answers("sentiment", ROWS, WRONG)
        asked = [row["messages"][:-1] for row in rows]
        clean = [row for row in answers("sentiment", 2 * ROWS, seed=1) if row["messages"][:-1] not in asked]
        aligned = bench.trial("aligned", self._plain(folder, "clean", clean, steps=40))
        aligned.advance()
        judged = bench.trial("aligned", self._plain(folder, "noisy", rows, steps=1))
        judged.attached.load_state(aligned.attached.state())
        found = likelihoods(judged).tolist()
        return [{**row, "aligned_logprob": value} for row, value in zip(rows, found, strict=True)]

    def findings(self, bench: Bench) -> Findings:
        """Right answers at the end and the fall from the best, per seed."""
        with TemporaryDirectory() as folder:
            self._file = written(folder, "rows", self.rows(bench, folder))
            rates = {arm: self.best(bench, arm) for arm in self.changes}
            runs = {
                arm: np.array([self._course(bench, arm, rate, seed) for seed in range(self.seeds)])
                for arm, rate in rates.items()
            }
        fall = {arm: run.max(1) - run[:, -1] for arm, run in runs.items()}
        apart = (runs["poft"] - runs["sft"])[:, -1], fall["poft"] - fall["sft"]
        values = {c.quantity: each.tolist() for c, each in zip(self.criteria, apart, strict=True)}
        return Findings(values, {"means": {arm: run.mean(0).tolist() for arm, run in runs.items()}, "rates": rates})

    def _plain(self, folder: str, name: str, rows: Rows, steps: int) -> dict[str, Any]:
        made = with_data(self.recipe, train={"path": written(folder, name, rows)})
        return {**made, "train": {**made["train"], "steps": steps}}

    def _course(self, bench: Bench, arm: str, rate: float, seed: int) -> NDArray[np.float64]:
        """The share of right answers after each part of a run."""
        trial = bench.trial(arm, self.made(arm, rate, seed, "test"))
        found = []
        for _ in range(PARTS):
            trial.advance(self.recipe["train"]["steps"] // PARTS)
            found.append(trial.scores()["exact_match"].score)
        return np.array(found)
