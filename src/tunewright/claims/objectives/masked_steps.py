"""Random tokens in the steps that the model reads (card 20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import PrivateAttr

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._answers import OnRows, Rows, written
from tunewright.claims._nano import recipe
from tunewright.claims._pretrained import with_data
from tunewright.claims._rates import TUNING_SEED
from tunewright.claims.base import Bench, Criterion

STEPS, ROWS, HELD, LEVEL = 60, 100, 300, 1
CHANCES = (0.1, 0.2, 0.4)


class MaskedSteps(OnRows):
    """With little data and many passes, random tokens in the worked steps lead to more right answers, in the question not.

    Word problems of one step, of which the embedded model answers half: LoRA for 60 steps of 512 tokens, 6 passes over
    100 rows. The rate is the better of two for SFT, and the same for all; the largest probability is the best of 0.1,
    0.2 and 0.4 on tuning rows. Right answers of 300 rows are counted by what stands after the mark. On arithmetic of two
    digits (8 passes) masked steps gave 2.4 points over eight seeds, on the bound. The mask token in place of random ones,
    and large augmented sets, are not tested.
    """

    name: ClassVar[str] = "masked_steps"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Masked Thought: Simply Masking Partial Reasoning Steps Can Improve Mathematical Reasoning Learning "
            "of Language Models",
            arxiv="2403.02178",
            card=20,
        ),
    )
    sentence: ClassVar[str] = (
        "Over 6 passes of 100 rows with worked steps, replacing tokens of the steps by random ones ends with more right "
        "answers than SFT, and replacing tokens of the question does not."
    )
    arms: ClassVar = {
        "sft": "rows as they are",
        "steps": "random tokens in the steps",
        "question": "random tokens in the question",
    }
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("right answers, masked steps minus SFT", "above", 0.02, "share"),
        Criterion("right answers, masked question minus SFT", "below", 0.02, "share"),
    )
    seeds: ClassVar[int] = 8
    budget: ClassVar[str] = "60 steps of 512 tokens, two rates and three probabilities on one seed, then eight seeds"
    recipe: ClassVar[Mapping[str, Any]] = recipe(
        "word_problems", steps=STEPS, tokens=512, evaluate=[{"task": "exact_match", "answer": "after ####"}]
    )
    rates: ClassVar[Sequence[float]] = (1e-3, 3e-3)
    tuned_by: ClassVar[str] = "exact_match"
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"sft": {}, "steps": {}, "question": {}}
    measured: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "right answers, masked steps minus SFT": ("exact_match", "steps", "sft"),
        "right answers, masked question minus SFT": ("exact_match", "question", "sft"),
    }
    _held: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _rate: float = PrivateAttr(0.0)
    _chance: float = PrivateAttr(0.0)

    def rows(self, bench: Bench, folder: str) -> Rows:
        """Rows of one step; those held out are written too."""
        drawn = lambda split, count: nanoworld.rows("word_problems", split, count, level=LEVEL)
        self._held = {split: written(folder, split, drawn(split, HELD)) for split in ("tuning", "test")}
        return list(drawn("train", ROWS))

    def made(self, arm: str, rate: float, seed: int, split: str) -> dict[str, Any]:
        """The recipe of one run."""
        made = with_data(super().made(arm, rate, seed, split), eval={"path": self._held[split]})
        scope = {"steps": "answer", "question": "prompt"}
        masked = {"method": "masked_thought", "p_max": self._chance, "scope": scope.get(arm)}
        return made if arm == "sft" else {**made, "objective": masked}

    def best(self, bench: Bench, arm: str) -> float:
        """The rate that suits SFT, for every arm; the probability is chosen at that rate."""
        if arm == "sft":
            self._rate = super().best(bench, arm)
        if arm == "steps":
            self._chance = max(CHANCES, key=lambda chance: self._tried(bench, chance))
        return self._rate

    def _tried(self, bench: Bench, chance: float) -> float:
        self._chance = chance
        trial = bench.trial("steps", self.made("steps", self._rate, TUNING_SEED, "tuning"))
        trial.advance()
        return trial.scores()["exact_match"].score
