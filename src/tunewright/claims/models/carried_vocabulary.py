"""Carrying a learned vocabulary over to a tuned model (card 151)."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._small import architecture, recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings, Trial

BASE, TUNED, ROWS = 500, 200, 200
VOCABULARY, HELD = 1024, 100
ENGLISH, BOTH = ("storytelling", "facts"), ("storytelling", "facts", "translation")
TASKS = ("instructions", "word_problems")
MODES = ("conversion", "overlap", "direct")


class CarriedVocabulary(Claim):
    """Rows of a new vocabulary, learned on the base, serve the tuned model better than means of its old pieces.

    A decoder of 0.2 million parameters with 1,024 tokens, cut without a word of the world's second language, reads stories,
    facts and translations for 500 steps. Its twin is tuned on instructions and word problems (all parameters, 200
    steps); the donor has the embedded model's 2,048 tokens and trains their rows alone for 200 steps on the base's
    texts. The score is 100 exp(-loss per character) of answers to held-out instructions, which is comparable between
    vocabularies; the second language is measured on sentences in it. Not tested here: self-calibration afterwards.
    """

    name: ClassVar[str] = "carried_vocabulary"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Facilitating large language model Russian adaptation with Learned Embedding Propagation",
            arxiv="2412.21140",
            card=151,
        ),
    )
    sentence: ClassVar[str] = (
        "Under the new vocabulary propagated rows give the tuned model a higher instruction score and a lower loss in "
        "the second language than untrained rows, and conversion is no worse than overlap, nor that than a direct swap."
    )
    arms: ClassVar = {
        "conversion": "donor's rows mapped by the pieces of new tokens",
        "overlap": "donor's rows mapped by tokens in common",
        "direct": "donor's rows as they are",
        "untrained": "means of the tuned model's own pieces",
        "old": "the tuned model under its own vocabulary",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("instruction score, conversion minus untrained", "above", 0.5, "points"),
        Criterion("second language, conversion minus untrained", "below", -0.01, "nats per character"),
        Criterion("instruction score, conversion minus overlap", "above", -0.5, "points"),
        Criterion("instruction score, overlap minus direct", "above", -0.5, "points"),
    )
    seeds: ClassVar[int] = 5
    budget: ClassVar[str] = "500, 200 and 200 steps of 512 tokens per seed"

    def findings(self, bench: Bench) -> Findings:
        """Scores and losses of every mode per seed."""
        found = []
        for seed in range(self.seeds):
            with TemporaryDirectory() as folder:
                found.append(self._seed(bench, Path(folder), seed))
        of = lambda arm, which: np.array([one[arm][which] for one in found])
        each = (
            of("conversion", 0) - of("untrained", 0),
            of("conversion", 1) - of("untrained", 1),
            of("conversion", 0) - of("overlap", 0),
            of("overlap", 0) - of("direct", 0),
        )
        values = {one.quantity: values.tolist() for one, values in zip(self.criteria, each, strict=True)}
        means = {arm: {"score": float(of(arm, 0).mean()), "second language": float(of(arm, 1).mean())} for arm in self.arms}  # fmt: skip
        kept = float((of("conversion", 0) / of("old", 0)).mean())
        return Findings(values, {"means": means, "share of the old score kept": kept})

    def _seed(self, bench: Bench, folder: Path, seed: int) -> dict[str, tuple[float, float]]:
        """(instruction score, loss per character in the second language) of every arm."""
        texts: dict[str, Any] = {"seed": seed, "skills": BOTH}
        old, new = ({"path": str(_begin() / name)} for name in ("old", "new"))
        base = self._keep(bench, "base", folder, recipe(steps=BASE, **texts, model={**old, "from_scratch": True}))
        tuning = recipe(steps=TUNED, seed=seed, skills=TASKS, lr=1e-3, model={"path": base})
        tuning["data"]["train_on"] = "completion"
        tuned = self._keep(bench, "tuned", folder, tuning)
        texts["adapter"] = {"method": "full", "train_modules": ["embed_tokens"]}
        begun = {"path": base, "vocabulary": _propagation(new["path"])}
        donor = self._keep(bench, "donor", folder, recipe(steps=ROWS, **texts, model=begun))
        words = {mode: _propagation(donor, base=base, mode=mode) for mode in MODES}
        words["untrained"] = _propagation(new["path"])
        models: dict[str, Any] = {arm: {"path": tuned, "vocabulary": one} for arm, one in words.items()}
        return {arm: _measured(bench, arm, model, folder) for arm, model in {**models, "old": {"path": tuned}}.items()}

    def _keep(self, bench: Bench, arm: str, folder: Path, made: Mapping[str, Any]) -> str:
        """The folder of a trained model, with the tokenizer it was trained with."""
        trial = bench.trial(arm, {**made, "evaluate": []})
        trial.advance()
        trial.tokenizer.save_pretrained(folder / arm)
        trial.policy.model.save_pretrained(folder / arm)
        return str(folder / arm)


def _propagation(donor: str, **options: str) -> dict[str, str]:
    return {"method": "learned_embedding_propagation", "donor": donor, **options}


@cache
def _kept() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="vocabularies-")


@cache
def _begin() -> Path:
    """A folder with the small architecture under `old`, its tokenizer learned on English alone, and `new`, the embedded
    model's tokenizer."""
    from tunewright.models.load import load_tokenizer
    from tunewright.recipe import ModelSpec

    folder = Path(_kept().name)
    shutil.copytree(architecture(), folder / "old")
    new = load_tokenizer(ModelSpec())
    new.save_pretrained(folder / "new")
    english = (
        message["content"]
        for skill in (*ENGLISH, *TASKS)
        for row in nanoworld.rows(skill, "train", 800)
        for message in row["messages"]
    )
    new.train_new_from_iterator(english, VOCABULARY).save_pretrained(folder / "old")
    file = folder / "old" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "vocab_size": VOCABULARY}))
    return folder


def _measured(bench: Bench, arm: str, model: Mapping[str, Any], folder: Path) -> tuple[float, float]:
    made = recipe(steps=1, skills=TASKS, model=model)
    answers = [row["messages"] for skill in TASKS for row in nanoworld.rows(skill, "test", HELD // 2)]
    texts = _sentences()
    held = {"answers": [{"messages": one} for one in answers], "texts": [{"text": one} for one in texts]}
    for name, rows in held.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    made["data"]["eval"] = [{"path": str(folder / f"{name}.jsonl"), "name": name} for name in held]
    made["data"]["train_on"] = "completion"
    trial: Trial = bench.trial(arm, made)
    scores = trial.scores()["perplexity"]
    losses = np.asarray(scores.values) * np.asarray(scores.weights)
    characters = {"answers": sum(len(one[-1]["content"]) for one in answers), "texts": sum(map(len, texts))}
    loss = {name: float(losses[np.array(scores.groups) == name].sum()) / count for name, count in characters.items()}
    return 100 * math.exp(-loss["answers"]), loss["texts"]


def _sentences() -> list[str]:
    """Sentences in the second language."""
    asked = nanoworld.rows("translation", "test", 4 * HELD, level=2)
    said = [row["messages"][-1]["content"] for row in asked if "Velmic" in row["messages"][0]["content"]]
    return random.Random(0).sample(sorted(set(said)), min(HELD, len(set(said))))
