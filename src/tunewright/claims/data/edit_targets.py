"""Corrections written as edits (card 180)."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims.base import Bench, Claim, Criterion, Findings

STEPS, TOKENS, ROWS, HELD, WORDS = 70, 1024, 1500, 100, 12
RATES = (5e-4, 1e-3)
TIMES = 3
"""How often the test set is answered; the shortest time counts, which other work disturbs least."""
WRONG = {
    "the": "teh", "is": "are", "was": "were", "lives": "live", "works": "work", "a": "an", "in": "inn", "of": "off",
    "and": "adn", "on": "no", "has": "have", "to": "too", "for": "fro", "with": "wiht", "by": "buy", "The": "Teh",
}  # fmt: skip
"""What becomes of a word that is corrupted."""


class EditTargets(Claim):
    """Learning edits is as exact as learning the whole corrected text, with fewer tokens and faster answers.

    Texts of the embedded model's world cut to 12 words, one of which is corrupted (with 30 words and one or two faults
    a model of this size learns neither in minutes). Edits are read from a source with word numbers, whole targets from
    one without; both train all parameters for 70 steps of 1,024 tokens at the better of two rates. A match is a text
    rebuilt without a fault. The tokens are those of an edit answer over those of the whole target; the time is that of
    answering and judging the whole test set, the shortest of three, one arm after the other on the same machine. The
    last criterion is a floor: where neither learns, they are equal for nothing. Not tested here: other rewriting tasks,
    their own measures.
    """

    name: ClassVar[str] = "edit_targets"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Reducing Sequence Length by Predicting Edit Operations with Large Language Models",
            arxiv="2305.11862",
            card=180,
        ),
    )
    sentence: ClassVar[str] = (
        "Edits match at least as often as whole targets, with under 40% of the tokens, and the test set is decoded in "
        "less time."
    )
    arms: ClassVar = {"edits": "spans over the numbered source", "whole": "the whole target"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("exact match, edits minus whole", "above", -1.0, "points"),
        Criterion("tokens of an answer, edits over whole", "below", 0.4, "ratio"),
        Criterion("log time of the test set, edits over whole", "below", 0.0, "log ratio"),
        Criterion("exact match of edits", "above", 10.0, "points"),
    )
    seeds: ClassVar[int] = 8
    budget: ClassVar[str] = "70 steps of 1,024 tokens, two rates on one seed, then eight seeds, per arm"

    def findings(self, bench: Bench) -> Findings:
        """Matches, tokens and times per seed."""
        rows, told = [], []
        with TemporaryDirectory() as folder:
            rates = {arm: self._best(bench, arm, folder) for arm in self.arms}
            for seed in range(self.seeds):
                found = {arm: self._run(bench, arm, rate, seed, "test", folder) for arm, rate in rates.items()}
                edits, whole = found["edits"], found["whole"]
                rows.append((edits["match"] - whole["match"], edits["length"], math.log(edits["time"] / whole["time"]), edits["match"]))  # fmt: skip
                told.append((edits["match"], whole["match"], edits["time"], whole["time"]))
        values = {c.quantity: [row[place] for row in rows] for place, c in enumerate(self.criteria)}
        names = ("match, edits", "match, whole", "seconds, edits", "seconds, whole")
        return Findings(values, {**dict(zip(names, np.mean(told, axis=0).tolist(), strict=True)), "rates": rates})

    def _best(self, bench: Bench, arm: str, folder: str) -> float:
        loss = [self._run(bench, arm, rate, TUNING_SEED, "tuning", folder)["loss"] for rate in RATES]
        return RATES[int(np.argmin(loss))]

    def _run(self, bench: Bench, arm: str, rate: float, seed: int, split: str, folder: str) -> Mapping[str, float]:
        """Loss, and on the test rows points of matches, the share of tokens, and seconds of the evaluation."""
        task = "edit_match" if arm == "edits" else "exact_match"
        made = recipe(
            "facts", steps=STEPS, tokens=TOKENS, seed=seed, adapter="full", optimizer={"method": "adamw", "lr": rate},
            evaluate=["perplexity"] if split == "tuning" else [task],
        )  # fmt: skip
        files = [_written(folder, arm, part, count) for part, count in (("train", ROWS), (split, HELD))]
        made["data"] = {"train": {"path": files[0]}, "eval": {"path": files[1]}}
        if arm == "edits":
            made["data"]["format"] = {"method": "edit_span_targets", "show_indices": True}
        trial = bench.trial(arm, made)
        trial.advance()
        spent = []
        for _ in range(1 if split == "tuning" else TIMES):
            started = time.perf_counter()
            scores = trial.scores()
            spent.append(time.perf_counter() - started)
        if split == "tuning":
            return {"loss": scores["perplexity"].score}
        further = scores[task].further
        length = float(further["length"].values.mean()) if "length" in further else 1.0
        return {"match": 100 * scores[task].score, "length": length, "time": min(spent)}


def _written(folder: str, arm: str, split: str, count: int) -> str:
    """The path of a file of corrections for an arm."""
    file = Path(folder) / f"{arm}-{split}.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for source, target in corrections(split, count):
            asked = [{"role": "user", "content": source}, {"role": "assistant", "content": target}]
            out.write(
                json.dumps({"source": source, "target": target} if arm == "edits" else {"messages": asked}) + "\n"
            )
    return str(file)


def corrections(split: str, count: int) -> Iterator[tuple[str, str]]:
    """Different texts of `WORDS` words with one word wrong, and as they should be."""
    rng, seen = random.Random(f"corrections {split}"), set[str]()
    for row in nanoworld.corpus(f"corrections {split}"):
        words = row.get("text", "").split()[:WORDS]
        right = " ".join(words)
        places = [place for place, word in enumerate(words) if word in WRONG]
        if len(words) < WORDS or not places or right in seen:
            continue
        seen.add(right)
        place = rng.choice(places)
        words[place] = WRONG[words[place]]
        yield " ".join(words), right
        if len(seen) == count:
            return
