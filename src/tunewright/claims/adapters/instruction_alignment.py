"""Robustness to rewording, and training for it (card 22)."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tunewright import nanoworld
from tunewright.catalog import Paper
from tunewright.claims._nano import recipe, written
from tunewright.claims.base import Bench, Claim, Criterion, Findings, Trial
from tunewright.data.records import Record, Turn
from tunewright.evaluate.tasks.exact_match import ExactMatch

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
STEPS, MORE, ROWS, LAM = 16, 10, 16, 0.8
ITEMS = 80


class InstructionAlignment(Claim):
    """Wordings that tuning never saw score lower; aligning answers over paraphrases narrows them.

    Translation to and from the world's second language in twelve wordings: four for tuning, four paraphrases for the
    alignment, four never trained on. LoRA on the embedded model, then 10 more steps of 16 rows with loss = CE(answer |
    paraphrase) + 0.8 KL(p(. | reference wording, model before these steps) || p(. | paraphrase)) over the answer tokens,
    or with CE alone as the control. The alignment trains the same LoRA instead of the paper's prefix. Exact match of
    greedy answers on 80 held-out rows per wording.

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
    budget: ClassVar[str] = "16 steps of 1,024 tokens, then 10 steps of 16 rows per arm and seed"

    def findings(self, bench: Bench) -> Findings:
        """The three quantities for every seed."""
        rows, told = [], []
        for seed in range(self.seeds):
            with tempfile.TemporaryDirectory() as folder:
                made = recipe("translation", steps=STEPS, tokens=1024, held=ITEMS, seed=seed)
                made["data"]["train"] = {"path": written(folder, "seen", _training(seed))}
                trial = bench.trial("tuned", made)
            trial.advance()
            seen, tuned = _accuracies(trial, SEEN), _accuracies(trial, UNSEEN)
            kept = {name: value.clone() for name, value in trial.attached.state().items()}
            after = {}
            for arm, lam in (("aligned", LAM), ("control", 0.0)):
                trial.attached.load_state(kept)
                _align(trial, lam, seed)
                bench.note(arm, MORE, MORE * ROWS)
                after[arm] = _accuracies(trial, UNSEEN)
            aligned = after["aligned"]
            rows.append((seen.mean() - tuned.mean(), aligned.std() - tuned.std(), aligned.mean() - tuned.mean()))
            told.append([each.mean() for each in (seen, tuned, aligned, after["control"])]
                        + [each.std() for each in (tuned, aligned, after["control"])])  # fmt: skip
        names = ("seen", "never trained", "aligned", "control", "spread", "spread aligned", "spread control")
        shown = dict(zip(names, np.mean(told, axis=0).tolist(), strict=True))
        return Findings({c.quantity: [float(row[k]) for row in rows] for k, c in enumerate(self.criteria)}, shown)


def _parts(content: str) -> dict[str, str]:
    """The language asked for and the text, of a question of the translation skill."""
    before, text = re.split(r"[:?] ", content, maxsplit=1)
    return {"to": "Velmic" if "Velmic" in before else "English", "t": text}


def _reworded(record: Record, wording: str) -> Record:
    *before, asked, answer = record.turns
    return replace(record, turns=(*before, replace(asked, content=wording.format(**_parts(asked.content))), answer))


def _training(seed: int) -> list[dict[str, Any]]:
    rng, made = random.Random(seed), []
    for row in nanoworld.rows("translation", "train", 800):
        asked, answer = row["messages"]
        made.append({"messages": [{**asked, "content": rng.choice(SEEN).format(**_parts(asked["content"]))}, answer]})
    return made


def _accuracies(trial: Trial, wordings: Sequence[str]) -> np.ndarray:
    """Points per wording."""
    subject = trial.subject()
    asked = ([_reworded(record, wording) for record in trial.rows.records] for wording in wordings)
    tested = (replace(subject, rows=replace(trial.rows, records=records, table=None)) for records in asked)
    return np.array([100 * ExactMatch(max_new_tokens=24).score(each).score for each in tested])


def _align(trial: Trial, lam: float, seed: int) -> None:
    """Trains the attached parameters on paraphrases; the reference wording is the first seen one, without gradient.

    The reference branch is the model before these steps.
    """
    rng = random.Random(1000 + seed)
    rows = [
        Record(tuple(_turns(row)), "chat") for row in nanoworld.rows("translation", "train", MORE * ROWS, seed=1 + seed)
    ]
    batches = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    model = trial.policy.model.eval()
    with torch.no_grad():
        references = [_answer_logprobs(trial, model, [_reworded(r, SEEN[0]) for r in batch])[0] for batch in batches]
    trained = list(trial.attached.trained().values())
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    for batch, reference in zip(batches, references, strict=True):
        asked = [_reworded(record, rng.choice(PARAPHRASES)) for record in batch]
        logprobs, targets = _answer_logprobs(trial, model, asked)
        loss = F.nll_loss(logprobs, targets) + lam * F.kl_div(
            logprobs, reference, reduction="batchmean", log_target=True
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()


def _turns(row: dict[str, Any]) -> Iterator[Turn]:
    return (Turn(message["role"], message["content"]) for message in row["messages"])


def _answer_logprobs(trial: Trial, model: Any, records: Sequence[Record]) -> tuple[Tensor, Tensor]:
    """log p over the vocabulary [answer tokens, vocabulary] at every answer token of the records, and those tokens."""
    made = trial.rows.rendered(records)
    width = max(len(one.ids) for one in made)
    ids = torch.zeros(len(made), width, dtype=torch.int64)
    kept = torch.zeros(len(made), width, dtype=torch.bool)
    for row, one in enumerate(made):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        kept[row, : len(one.ids)] = torch.tensor(one.weights) > 0
    # Padding stands behind the text, where no earlier token looks.
    logits = model(input_ids=ids).logits[:, :-1]
    return logits[kept[:, 1:]].float().log_softmax(-1), ids[:, 1:][kept[:, 1:]]
