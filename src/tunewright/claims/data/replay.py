"""Replaying a tenth of earlier rows (card 200)."""

from __future__ import annotations

import math
import random
import tempfile
from typing import Any, ClassVar

import numpy as np

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe, written
from tunewright.claims.base import Bench, Claim, Criterion, Findings
from tunewright.evaluate.metrics.continual import Block, lifelong
from tunewright.evaluate.tasks.perplexity import Perplexity

TASKS = ("word_problems", "sentiment", "translation")
STEPS, TOKENS, ROWS, SHARE = 6, 1024, 500, 0.1


class Replay(Claim):
    """A tenth of earlier rows in every later block keeps earlier tasks and helps them.

    Word problems, then sentiment, then translation: one LoRA on the embedded model, six steps of 1,024 tokens each;
    before and after every block all three tasks are tested on 40 held-out rows. Scores are exp(-loss), the geometric
    mean probability of an answer's tokens, of a training step or of a test. Experts learn one task alone, from the same
    rows in the same order.
    """

    name: ClassVar[str] = "replay"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="A Domain-Agnostic Approach for Characterization of Lifelong Learning Systems",
            arxiv="2301.07799",
            card=200,
        ),
    )
    sentence: ClassVar[str] = (
        "In a sequence of three tuning tasks, replaying 10% of earlier rows raises performance maintenance and backward "
        "transfer, at a relative performance of at least 0.95."
    )
    arms: ClassVar = {
        "replay": "10% of rows from earlier tasks",
        "naive": "each task's rows alone",
        "expert": "one task",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("performance maintenance, replay minus naive", "above", 2.0, "points"),
        Criterion("backward transfer, replay minus naive", "above", 0.02, "ratio"),
        Criterion("relative performance with replay", "above", 0.95, "ratio"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "3 blocks of 6 steps of 1,024 tokens per arm and seed, and 3 experts"

    def findings(self, bench: Bench) -> Findings:
        """The three quantities for every seed."""
        rows, told = [], []
        for seed in range(self.seeds):
            with tempfile.TemporaryDirectory() as folder:
                experts = [
                    Block("train", task, self._learn(bench, "expert", folder, seed, task, None, [])[0])
                    for task in TASKS
                ]
                runs = {arm: self._sequence(bench, arm, folder, seed) for arm in ("replay", "naive")}
            found = {arm: lifelong(blocks, experts) for arm, blocks in runs.items()}
            replay, naive = found["replay"], found["naive"]
            maintained = [one.maintenance or 0.0 for one in (replay, naive)]
            backward = [one.backward or math.nan for one in (replay, naive)]
            relative = replay.relative or math.nan
            rows.append((maintained[0] - maintained[1], backward[0] - backward[1], relative))
            told.append([*maintained, *backward, relative, naive.relative or math.nan])
        names = ("maintenance with replay", "maintenance", "backward with replay", "backward", "relative with replay",
                 "relative")  # fmt: skip
        shown = dict(zip(names, np.mean(told, axis=0).tolist(), strict=True))
        return Findings({c.quantity: [row[k] for row in rows] for k, c in enumerate(self.criteria)}, shown)

    def _sequence(self, bench: Bench, arm: str, folder: str, seed: int) -> list[Block]:
        blocks: list[Block] = []
        state: dict[str, Any] | None = None
        for place, task in enumerate(TASKS):
            earlier = TASKS[:place] if arm == "replay" else ()
            scores, tests, state = self._learn(bench, arm, folder, seed, task, state, list(earlier))
            blocks += tests[0] if not blocks else []
            blocks += [Block("train", task, scores), *tests[1]]
        return blocks

    def _learn(
        self,
        bench: Bench,
        arm: str,
        folder: str,
        seed: int,
        task: str,
        state: dict[str, Any] | None,
        earlier: list[str],
    ) -> tuple[list[float], tuple[list[Block], list[Block]], dict[str, Any]]:
        """Scores of the training steps, tests before and after, and the trained tensors."""
        made = recipe(task, steps=STEPS, tokens=TOKENS, held=40, seed=seed, schedule="constant")
        made["data"]["train"] = {"path": written(folder, f"{arm}-{task}", _rows(task, earlier, seed))}
        made["data"]["eval"] = [{"path": f"nano:{one}/test", "limit": 40, "name": one} for one in TASKS]
        trial = bench.trial(arm, made)
        if state is not None:
            trial.attached.load_state(state)
        before = [] if state is not None or arm == "expert" else _tests(trial)
        trial.advance()
        after = [] if arm == "expert" else _tests(trial)
        kept = {name: value.clone() for name, value in trial.attached.state().items()}
        return [math.exp(-loss) for loss in trial.losses], (before, after), kept


def _rows(task: str, earlier: list[str], seed: int) -> list[dict[str, Any]]:
    """The task's rows, a tenth of them replaced by rows of earlier tasks."""
    rows = list(nanoworld.rows(task, "train", ROWS, seed=seed))
    rng = random.Random(seed)
    for number, place in enumerate(rng.sample(range(ROWS), int(SHARE * ROWS)) if earlier else []):
        old = earlier[number % len(earlier)]
        rows[place] = list(nanoworld.rows(old, "train", 100, seed=seed))[number % 100]
    return rows


def _tests(trial: Any) -> list[Block]:
    """A test block of every task, from one measurement of all held-out rows."""
    scores = Perplexity().score(trial.subject())
    found = []
    for task in TASKS:
        own = np.array([group == task for group in scores.groups])
        loss = float(np.average(scores.values[own], weights=scores.weights[own]))
        found.append(Block("test", task, [math.exp(-loss)]))
    return found
