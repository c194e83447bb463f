"""Robustness to rewording, and training for it (card 22)."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tunewright import nanoworld
from tunewright.adapters._peft import save_peft
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe
from tunewright.claims.base import Bench, Claim, Criterion, Findings, Trial
from tunewright.evaluate.tasks.instruction_sensitivity import InstructionSensitivity

SEEN = (
    "Translate to {to}: {t}",
    "Say this in {to}: {t}",
    "{t} is what in {to}?",
    "I need the {to} words for this. {t}",
)
PARAPHRASES = (
    "Give the {to} for: {t}",
    "{t} Now the same in {to}.",
    "Turn this into {to}, please. {t}",
    "What would one say in {to}? {t}",
)
UNSEEN = (
    "Put these words into {to}. {t}",
    "{t} Write that in {to}.",
    "My friend speaks {to}. What do I tell her? {t}",
    "{to} version of: {t}",
)
STEPS, MORE, ROWS, LAM = 16, 10, 160, 0.8
ITEMS = 80


class InstructionAlignment(Claim):
    """Wordings that tuning never saw score lower; aligning answers over paraphrases narrows them.

    Translation to and from the world's second language in twelve wordings: four for tuning, four paraphrases for the
    alignment, four never trained on. LoRA on the embedded model; then, on the model so tuned, another LoRA by the
    objective `instruction_alignment` for 10 steps, CE(answer | paraphrase) + 0.8 KL(p(. | reference wording, model
    before these steps) || p(. | paraphrase)), or with lam 0, CE alone, as the control. The paper trains a prefix. Exact
    match of greedy answers on 80 held-out rows per wording, as the task `instruction_sensitivity` has it.

    An earlier form on the sentiment of reviews, which the model hardly learns (41% of three answers), stayed undecided
    after 14 seeds; the criteria are those of that form.
    """

    name: ClassVar[str] = "instruction_alignment"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Evaluating the Zero-shot Robustness of Instruction-tuned Language Models",
            arxiv="2306.11270",
            card=22,
        ),
    )
    sentence: ClassVar[str] = (
        "A tuned model scores lower on wordings it was never tuned on, and alignment training on paraphrases shrinks the "
        "spread over never-trained wordings without lowering their mean."
    )
    arms: ClassVar = {"tuned": "tuned on 4 wordings", "aligned": "then CE + KL", "control": "then CE alone"}
    criteria: ClassVar[tuple[Criterion, ...]] = (
        Criterion("accuracy on seen minus never-trained wordings", "above", 1.0, "points"),
        Criterion("spread over never-trained wordings, aligned minus tuned", "below", 0.0, "points"),
        Criterion("mean over never-trained wordings, aligned minus tuned", "above", -1.0, "points"),
    )
    seeds: ClassVar[int] = 10
    budget: ClassVar[str] = "16 steps of 1,024 tokens, then 10 steps of 1,024 tokens in both wordings, per arm and seed"

    def findings(self, bench: Bench) -> Findings:
        """The three quantities for every seed."""
        rows, told = [], []
        for seed in range(self.seeds):
            with tempfile.TemporaryDirectory() as folder:
                made = _recipe(Path(folder), seed)
                trial = bench.trial("tuned", made)
                trial.advance()
                seen, tuned = _accuracies(trial, SEEN), _accuracies(trial, UNSEEN)
                save_peft(Path(folder) / "adapter", trial.attached.as_lora(), "nano")
                made["model"] = {"path": "nano", "adapter": str(Path(folder) / "adapter")}
                made["data"]["train"] = {"path": _written(Path(folder) / "aligned.jsonl", _reworded(seed))}
                made["optimizer"] = {"method": "adamw", "lr": 1e-3, "weight_decay": 0.0}
                made["schedule"] = "constant"
                made["train"] = {**made["train"], "steps": MORE}
                after = {}
                for arm, lam in (("aligned", LAM), ("control", 0.0)):
                    trial = bench.trial(arm, {**made, "objective": {"method": "instruction_alignment", "lam": lam}})
                    trial.advance()
                    after[arm] = _accuracies(trial, UNSEEN)
            aligned = after["aligned"]
            rows.append((seen.mean() - tuned.mean(), aligned.std() - tuned.std(), aligned.mean() - tuned.mean()))
            told.append([each.mean() for each in (seen, tuned, aligned, after["control"])]
                        + [each.std() for each in (tuned, aligned, after["control"])])  # fmt: skip
        names = ("seen", "never trained", "aligned", "control", "spread", "spread aligned", "spread control")
        shown = dict(zip(names, np.mean(told, axis=0).tolist(), strict=True))
        return Findings({c.quantity: [float(row[k]) for row in rows] for k, c in enumerate(self.criteria)}, shown)


def _recipe(folder: Path, seed: int) -> dict[str, Any]:
    """Tuning on the seen wordings; held-out rows with the columns that wordings name."""
    rng = random.Random(seed)
    seen = (_row(row, rng.choice(SEEN)) for row in nanoworld.rows("translation", "train", 800))
    held = ({**row, **_parts(row)} for row in nanoworld.rows("translation", "test", ITEMS))
    made = recipe("translation", steps=STEPS, tokens=1024, seed=seed)
    made["data"] = {
        "train": {"path": _written(folder / "seen.jsonl", seen)},
        "eval": {"path": _written(folder / "held.jsonl", held)},
    }
    return made


def _reworded(seed: int) -> Iterator[dict[str, Any]]:
    """Rows for the alignment: a paraphrase, and the first seen wording as the reference."""
    rng = random.Random(1000 + seed)
    for row in nanoworld.rows("translation", "train", ROWS, seed=1 + seed):
        yield {**_row(row, rng.choice(PARAPHRASES)), "reference_prompt": SEEN[0].format(**_parts(row))}


def _row(row: dict[str, Any], wording: str) -> dict[str, Any]:
    asked, answer = row["messages"]
    return {"messages": [{**asked, "content": wording.format(**_parts(row))}, answer]}


def _parts(row: dict[str, Any]) -> dict[str, str]:
    """The language asked for and the text, of a question of the translation skill."""
    before, text = re.split(r"[:?] ", row["messages"][0]["content"], maxsplit=1)
    return {"to": "Velmic" if "Velmic" in before else "English", "t": text}


def _written(file: Path, rows: Iterable[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def _accuracies(trial: Trial, wordings: Sequence[str]) -> np.ndarray:
    """Points per wording."""
    asked = InstructionSensitivity(seen=wordings[:1], unseen=tuple(wordings), max_new_tokens=24)
    found = asked.score(trial.subject()).details["formats"]
    return np.array([100 * found[wording] for wording in wordings])
