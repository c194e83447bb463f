"""Answers learned without their questions (card 3)."""

from __future__ import annotations

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

TAGS = ("<|ask|>", "<|tell|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}<|tell|>"
    "{% generation %}{{ message.content }}<|end|>{% endgeneration %}"
    "{% else %}<|ask|>{{ message.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|tell|>{% endif %}"
)
"""A chat written with marks that the base never read; only the end token is its own."""

RECIPE = recipe("facts", steps=24, tokens=512, held=120, adapter="full", evaluate=["perplexity", "exact_match"])


@cache
def _template() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="template-")
    (Path(folder.name) / "template.jinja").write_text(TEMPLATE)
    return folder


class SilentQuestions(AtBestRate):
    """A model tuned on answers alone answers questions far better than before, and less well than with questions.

    Questions on what the embedded model knows, in a chat whose marks are new tokens that begin as the mean of all rows;
    all parameters train. Response tuning sees the answers after an empty question. All are asked the same held-out
    questions in full. An answer counts when it equals the reference. The base's end token is the chat's own, so that it
    ends its answers from the start: ends are shown and not judged. Not tested here: single-task tuning, the rule-based
    decoder, win rates by a judge.
    """

    name: ClassVar[str] = "silent_questions"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Instruction Following without Instruction Tuning", arxiv="2409.14254", card=3),
    )
    sentence: ClassVar[str] = (
        "Tuned on answers without questions, a model matches far more often than the base in a chat with unknown marks, "
        "and no more often than one tuned on both."
    )
    arms: ClassVar = {"response": "answers alone", "instruction": "questions and answers", "base": "untuned"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("exact match, answers alone minus base", "above", 10.0, "points"),
        Criterion("exact match, answers alone minus both", "below", 2.0, "points"),
    )
    seeds: ClassVar[int] = 4
    budget: ClassVar[str] = "24 steps of 512 tokens, two rates on one seed, then four seeds, per arm"
    recipe: ClassVar[Mapping[str, Any]] = RECIPE
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "response": {"data": {**RECIPE["data"], "format": "response_tuning"}},
        "instruction": {},
    }
    rates: ClassVar[Sequence[float]] = (3e-4, 1e-3)

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run, with the new marks."""
        file = Path(_template().name) / "template.jinja"
        model = {"path": "nano", "chat_template": str(file), "add_tokens": {"tokens": list(TAGS), "init": "mean"}}
        return {**super().made(arm, rate, seed, split), "model": model}

    def findings(self, bench: Bench) -> Findings:
        """Matches and ends of both arms and of the base per seed."""
        rates = {arm: self.best(bench, arm) for arm in self.changes}
        found = []
        for seed in range(self.seeds):
            trials = {arm: bench.trial(arm, self.made(arm, rate, seed, "test")) for arm, rate in rates.items()}
            found.append({"base": _points(trials["response"])})
            for arm, trial in trials.items():
                trial.advance()
                found[-1][arm] = _points(trial)
        apart = lambda other: [one["response"][0] - one[other][0] for one in found]
        differences = (apart("base"), apart("instruction"))
        values = {one.quantity: values for one, values in zip(self.criteria, differences, strict=True)}
        means = {arm: np.mean([one[arm] for one in found], axis=0).tolist() for arm in self.arms}
        return Findings(values, {"match and end": means, "rates": rates})


def _points(trial: Trial) -> tuple[float, float]:
    """Points of exact matches and of answers that end by themselves."""
    scores = trial.scores()["exact_match"]
    return 100 * scores.score, 100 * float(np.mean(scores.stopped if scores.stopped is not None else 0.0))
