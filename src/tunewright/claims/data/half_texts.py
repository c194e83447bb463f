"""A stronger model's continuations of plain texts as tuning data (card 27)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe, written
from tunewright.claims._rates import AtBestRate
from tunewright.claims._small import keep
from tunewright.claims.base import Bench, Criterion, Findings, Trial

MARK = "Here is what I know.\n"
TEACHING, TEXTS = 30, 250
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}<|tell|>"
    "{% generation %}{{ message.content }}<|end|>{% endgeneration %}"
    "{% else %}<|ask|>{{ message.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|tell|>{% endif %}"
)
"""A chat written with marks that the base never read."""


@cache
def _folder() -> TemporaryDirectory[str]:
    """A folder for template, texts and teacher."""
    folder = TemporaryDirectory(prefix="half-texts-")
    (Path(folder.name) / "template.jinja").write_text(TEMPLATE)
    texts = islice((row["text"] for row in nanoworld.corpus("half texts") if row["skill"] in ("life", "town")), TEXTS)
    (Path(folder.name) / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


class HalfTexts(AtBestRate):
    """A base model tuned on a chat model's continuations of half texts answers questions that nobody showed it.

    The teacher is the embedded model tuned on questions and answers to open each answer with a marked line; it
    continues the first halves of 250 lives and notes. The student is the embedded model in a chat whose marks are new
    tokens, so that it is a base there. The control learns the texts' own second halves. Asked are held-out questions on
    the world; an answer counts when its last line equals the reference. The student's end token is the chat's own, so
    that it ends its answers from the start: ends, and the share that opens as the teacher does, are shown and not
    judged. The teacher is no larger than the student; it knows the chat. Not tested here: rows without instructions.
    """

    name: ClassVar[str] = "half_texts"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Non-instructional Fine-tuning: Enabling Instruction-Following Capabilities in Pre-trained Language "
            "Models without Instruction-Following Data",
            arxiv="2409.00096",
            card=27,
        ),
    )
    sentence: ClassVar[str] = (
        "After tuning on a teacher's continuations a base answers more held-out questions than before, and more than "
        "after tuning on the texts' own second halves."
    )
    arms: ClassVar = {"teacher": "the teacher's halves", "original": "the texts' own halves", "base": "untuned"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("exact match, teacher's halves minus base", "above", 2.0, "points"),
        Criterion("exact match, teacher's halves minus own halves", "above", 2.0, "points"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "30 steps once for the teacher; 24 of 512 tokens, two rates on one seed, then four, per arm"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "facts", steps=24, tokens=512, held=120, adapter="full",
        evaluate=["perplexity", {"task": "exact_match", "answer": "last_line"}],
    )  # fmt: skip
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"teacher": {}, "original": {}}
    rates: ClassVar[Sequence[float]] = (3e-4, 1e-3)

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        folder = Path(_folder().name)
        tokens = {"tokens": ["<|ask|>", "<|tell|>"], "init": "mean"}
        made = super().made(arm, rate, seed, split)
        halves = {"method": "half_text_distill", "variant": arm}
        return {
            **made,
            "model": {"path": "nano", "chat_template": str(folder / "template.jinja"), "add_tokens": tokens},
            "data": {
                "sources": [{"path": str(folder / "texts.jsonl"), "format": halves}],
                "eval": made["data"]["eval"],
            },
            "supplies": {"teacher": str(folder / "teacher")} if arm == "teacher" else {},
        }

    def findings(self, bench: Bench) -> Findings:
        """Matches of both arms and of the base per seed."""
        _teach(bench)
        rates = {arm: self.best(bench, arm) for arm in self.changes}
        found = []
        for seed in range(self.seeds):
            trials = {arm: bench.trial(arm, self.made(arm, rate, seed, "test")) for arm, rate in rates.items()}
            found.append({"base": _points(trials["original"])})
            for arm, trial in trials.items():
                trial.advance()
                found[-1][arm] = _points(trial)
        apart = lambda other: [one["teacher"][0] - one[other][0] for one in found]
        values = {self.criteria[0].quantity: apart("base"), self.criteria[1].quantity: apart("original")}
        means = {arm: np.mean([one[arm] for one in found], axis=0).tolist() for arm in self.arms}
        return Findings(values, {"match, end, marked": means, "rates": rates})


def _teach(bench: Bench) -> None:
    """Tunes the teacher on questions whose answers open with the mark, and keeps it."""
    folder = Path(_folder().name)
    rows = list(nanoworld.rows("facts", "train", 600))
    for row in rows:
        *before, last = row["messages"]
        row["messages"] = [*before, {**last, "content": MARK + last["content"]}]
    made = recipe("facts", steps=TEACHING, tokens=512, held=20, adapter="full", optimizer={"method": "adamw", "lr": 5e-4})  # fmt: skip
    made["data"]["train"] = {"path": written(folder, "taught", rows)}
    trial = bench.trial("teaching", made)
    trial.advance()
    keep(trial, folder / "teacher")


def _points(trial: Trial) -> tuple[float, float, float]:
    """Points of exact matches, of answers that end by themselves, and of answers that open with the mark."""
    scores = trial.scores()["exact_match"]
    marked = [answer.startswith(MARK.strip()) for answer in scores.answers]
    return (
        100 * scores.score,
        100 * float(np.mean(scores.stopped if scores.stopped is not None else 0.0)),
        100 * float(np.mean(marked)),
    )
