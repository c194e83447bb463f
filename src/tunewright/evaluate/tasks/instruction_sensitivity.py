"""How far a score moves when an instruction is reworded, in wordings that tuning saw and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import pstdev
from string import Formatter
from typing import ClassVar

import numpy as np
from pydantic import field_validator

from tunewright.catalog import Paper, option
from tunewright.data.batches import collate, micro_batches
from tunewright.data.records import Record
from tunewright.errors import BadInput, nearest
from tunewright.evaluate.base import Floats, Further, Grid, Role, Rows, Scores, Subject, prompt_text, tabulated
from tunewright.evaluate.choices import Choices, choices_of
from tunewright.evaluate.metrics.answers import exact_match
from tunewright.evaluate.tasks._asked import Asked
from tunewright.evaluate.tasks._greedy import greedy
from tunewright.models.generate import evaluating

PROMPT = "prompt"
"""The name that stands for the row's last prompt turn as it is."""


def names_in(wording: str) -> list[str]:
    """The names in braces of a wording. Raises `ValueError` where it has none, or anything but names."""
    try:
        fields = [field for _, *field in Formatter().parse(wording) if field[0] is not None]
    except ValueError as error:
        raise ValueError(f"'{wording}' is no wording: {error}") from None
    if not fields or any(not name or set(name) & set(".[]") or spec or how for name, spec, how in fields):
        raise ValueError(f"'{wording}' is no wording; expected names of a row's columns in braces, such as {{prompt}}")
    return [str(name) for name, _, _ in fields]


@dataclass(frozen=True)
class Found:
    """What a wording gave: `right` [rows] 1 or 0, what the model `said` [rows], and its last hidden state at the end of
    each prompt, `hidden` [rows, width]."""

    right: Floats
    said: Sequence[str]
    hidden: Floats

    @property
    def score(self) -> float:
        return float(self.right.mean())


class InstructionSensitivity(Asked):
    """Accuracy under wordings of the instruction that tuning never saw, beside those that it saw.

    A wording is a text with names in braces: `{prompt}` is the row's last prompt turn as it is, any other name a column
    of the row (`Say this in {to}: {text}`). Each takes the place of that turn, and all rows are scored under each: right
    is a row whose reference is the likeliest of its choices (classes; a column `choices`; few answers that repeat), or,
    where answers are free, whose greedy answer equals the reference. The value of a row is the mean over `unseen`
    wordings.

    Tables: mean and standard deviation over the wordings of each group, the worst wording, agreement (the share of pairs
    of wordings to which a row's answer is the same), and the gap seen - unseen; then for each unseen wording u the seen
    one s that is nearest, by the mean over rows of ||h_u - h_s||, h the last hidden state at the end of the prompt, with
    this distance and the drop score(s) - score(u).

    When to use: users will not ask in the words of the training data. When not: rows of plain text (left out with a
    warning); variations that a program can make (`prompt_sensitivity`, `format_spread`).
    """

    name: ClassVar[str] = "instruction_sensitivity"
    role: ClassVar[Role] = "target"
    short: ClassVar[bool] = False
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Evaluating the Zero-shot Robustness of Instruction-tuned Language Models",
            arxiv="2306.11270",
            card=22,
        ),
    )

    seen: tuple[str, ...] = option(
        ..., "Wordings that the training data have.", changes="output", to=("{prompt}!",),
        given={"evaluate.seen": ("{prompt}",)}, min_length=1,
    )  # fmt: skip
    unseen: tuple[str, ...] = option(
        ..., "Wordings that they do not have.", changes="output", to=("so {prompt}?",),
        given={"evaluate.unseen": ("I ask: {prompt}",)}, min_length=1,
    )  # fmt: skip
    max_new_tokens: int | None = option(
        None, "Longest free answer in tokens; default one and a half times the longest reference, up to 512.",
        changes="output", to=2, given={"evaluate.seen": ("{prompt}",), "evaluate.max_new_tokens": 6}, ge=1,
    )  # fmt: skip

    @field_validator("seen", "unseen")
    @classmethod
    def _of_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for wording in value:
            names_in(wording)
        return value

    def score(self, subject: Subject) -> Scores:
        """The share of unseen wordings to which each row's answer is right."""
        rows = self.rows(subject)
        choices = choices_of(rows, self.all_rows(subject))
        found = {
            wording: self._found(subject, rows, [reworded(record, wording) for record in rows.records], choices)
            for wording in dict.fromkeys((*self.seen, *self.unseen))
        }
        seen, unseen = ([found[wording] for wording in group] for group in (self.seen, self.unseen))
        mean = lambda group: np.mean([each.right for each in group], axis=0)
        return Scores(
            name=self.name,
            metric="accuracy",
            role=self.role,
            unit="share",
            higher_is_better=True,
            values=mean(unseen),
            weights=np.ones(len(rows)),
            ids=[record.where for record in rows.records],
            prompts=[prompt_text(record) for record in rows.records],
            groups=[rows.source(record) for record in rows.records],
            further={
                "seen wordings": Further(mean(seen), "share", True),
                "agreement over unseen wordings": Further(agreement(unseen), "share", True),
            },
            grids=(self._groups(seen, unseen), self._distances(seen, unseen)),
            details={"formats": {wording: each.score for wording, each in found.items()}},
        )

    def _found(self, subject: Subject, rows: Rows, asked: Sequence[Record], choices: Choices | None) -> Found:
        hidden = last_states(subject, rows, asked)
        if choices is None:
            answers = greedy(subject, rows, asked, self.max_new_tokens)
            right = [exact_match(a.text, record.answer) for a, record in zip(answers, asked, strict=True)]
            return Found(np.array(right), [" ".join(answer.text.split()) for answer in answers], hidden)
        best = [int(p.argmax()) for p in choices.probabilities(subject, rows, asked)]
        said = [texts[n] for texts, n in zip(choices.answers, best, strict=True)]
        return Found(np.equal(best, choices.truths).astype(np.float64), said, hidden)

    def _groups(self, seen: Sequence[Found], unseen: Sequence[Found]) -> Grid:
        lines: dict[str, Sequence[float | None]] = {}
        for name, group in (("seen", seen), ("unseen", unseen)):
            scores = [each.score for each in group]
            # Exact sums, so that equal scores have no spread at all.
            lines[name] = (float(np.mean(scores)), pstdev(scores), min(scores), float(agreement(group).mean()))
        both = zip(lines["seen"], lines["unseen"], strict=True)
        lines["seen - unseen"] = [float(one) - float(other) for one, other in both]  # type: ignore[arg-type]
        return Grid("Accuracy over wordings", ("mean", "standard deviation", "worst wording", "agreement"), lines)

    def _distances(self, seen: Sequence[Found], unseen: Sequence[Found]) -> Grid:
        lines = {}
        for wording, own in zip(self.unseen, unseen, strict=True):
            away = [float(np.linalg.norm(own.hidden - other.hidden, axis=1).mean()) for other in seen]
            near = int(np.argmin(away))
            lines[wording] = (own.score, seen[near].score - own.score, away[near], near + 1)
        columns = ("accuracy", "drop from the nearest seen", "distance to it", "its number in 'seen'")
        return Grid("Unseen wordings and the seen ones they are nearest to", columns, lines)


def reworded(record: Record, wording: str) -> Record:
    """The record with another last prompt turn. Raises `BadInput` naming what the row has no column for."""
    known: Mapping[str, object] = {**record.columns, PROMPT: record.turns[-2].content}
    unknown = [name for name in names_in(wording) if known.get(name) is None]
    if unknown:
        raise BadInput(
            "the wording names what the row does not have", file=record.file or None, line=record.line or None,
            field="evaluate", found=f"{{{unknown[0]}}} in '{wording}'", expected=f"one of {', '.join(known)}",
            hint=nearest(unknown[0], known),
        )  # fmt: skip
    asked = replace(record.turns[-2], content=wording.format_map(known))
    return replace(record, turns=(*record.turns[:-2], asked, record.turns[-1]))


def agreement(group: Sequence[Found]) -> Floats:
    """The share of pairs of wordings to which a row's answer is the same [rows]; 1 for a single wording."""
    pairs = [np.array([a == b for a, b in zip(x.said, y.said, strict=True)]) for x, y in combinations(group, 2)]
    return np.mean(pairs, axis=0) if pairs else np.ones(len(group[0].said))


def last_states(subject: Subject, rows: Rows, records: Sequence[Record]) -> Floats:
    """The last hidden state at the end of each prompt: float64 [rows, width]."""
    prompts = [list(rows.renderer(record).prompt(record)) for record in records]
    table = tabulated((ids, [0.0] * len(ids)) for ids in prompts)
    found: dict[int, Floats] = {}
    with evaluating(subject.policy):
        for group in micro_batches(np.arange(len(table)), table.lengths, subject.batch_tokens):
            hidden = subject.policy.hidden(collate(table, group).to(subject.policy.device))
            ends = table.lengths[group] - 1
            taken = hidden[range(len(group)), ends.tolist()].double().cpu().numpy()
            found |= zip(group.tolist(), taken, strict=True)
    return np.stack([found[index] for index in range(len(table))])
