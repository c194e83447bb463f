"""The mechanism of every task that judges generated answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from tunewright.catalog import option
from tunewright.data.demonstrations import preceded
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Floats, Further, Rows, Scores, Subject, Task, Unit, prompt_text
from tunewright.evaluate.metrics.lengths import length_summary
from tunewright.evaluate.metrics.weighted_mean import evened
from tunewright.models.generate import Answer, LogitsProcessor, context_length, generate

Judge = Callable[[Answer, Record], float]
"""(answer, record) -> value."""

TEXT_PROMPT = 16
"""Tokens of a plain text that are given as its prompt."""


class Generated(Task):
    """Greedy answers to the rows' prompts, each with a value."""

    generates: ClassVar[bool] = True
    unit: ClassVar[Unit] = "share"

    max_new_tokens: int | None = option(
        None, "Longest answer in tokens; default one and a half times the longest reference, up to 512.",
        changes="output", to=2, ge=1,
    )  # fmt: skip
    shots: int = option(
        0, "Also measure the base model with this many training examples before each prompt.", changes="output", to=2,
        ge=0,
    )  # fmt: skip

    @property
    def metric(self) -> str:
        """The name of what a value measures."""
        return self.name

    @abstractmethod
    def judge(self, subject: Subject) -> Judge:
        """The function that gives an answer its value."""

    def weight(self, answer: Answer, record: Record) -> float:
        """What the value of an answer counts in the mean; the same for all unless a task says otherwise."""
        return 1.0

    def processors(
        self, subject: Subject, records: Sequence[Record], prompts: Sequence[Sequence[int]]
    ) -> tuple[LogitsProcessor, ...]:
        """What changes the logits before a token is chosen."""
        return ()

    def further(self, subject: Subject, records: Sequence[Record], answers: Sequence[Answer]) -> dict[str, Further]:
        """Other quantities of the answers, by name."""
        return {}

    def about(self, records: Sequence[Record], answers: Sequence[Answer]) -> dict[str, Any]:
        """Numbers about all answers together."""
        return {}

    def score(self, subject: Subject) -> Scores:
        """One value per row, from its greedy answer."""
        return self._scored(subject, ())

    def score_with_shots(self, subject: Subject) -> Scores:
        """The same with `shots` training examples before every prompt.

        Raises `BadInput` when the subject has fewer examples.
        """
        chosen = np.linspace(0, max(0, len(subject.examples) - 1), min(self.shots, len(subject.examples)))
        return self._scored(subject, [subject.examples[int(i)] for i in chosen.round()])

    def _scored(self, subject: Subject, examples: Sequence[Record]) -> Scores:
        rows = self.rows(subject)
        prompts = [with_shots(rows, record, examples) for record in rows.records]
        room = (context_length(subject.policy.model) or 1 << 62) - 1
        fits = [n for n, prompt in enumerate(prompts) if len(prompt) <= room]
        if not fits:
            raise BadInput(
                f"every prompt of the task '{self.name}' fills the model's context", field="evaluate",
                expected=f"prompts of at most {room} tokens",
            )  # fmt: skip
        new = self.max_new_tokens or longest_answer(rows)
        prompts, records = [prompts[n] for n in fits], [rows.records[n] for n in fits]
        answers = generate(
            subject.policy,
            subject.tokenizer,
            prompts,
            subject.decoding(prompts, new, *self.processors(subject, records, prompts)),
            8 * subject.batch_tokens,
        )
        judge = self.judge(subject)
        values = [judge(answer, record) for answer, record in zip(answers, records, strict=True)]
        weights = [self.weight(answer, record) for answer, record in zip(answers, records, strict=True)]
        left_out = len(rows) - len(fits)
        notes = (f"{left_out} rows whose prompt fills the model's context were left out",) if left_out else ()
        details = {"max_new_tokens": new, **self.about(records, answers)}
        scores = self._as_scores(rows, records, answers, evened(values, weights), details, notes)
        return replace(scores, further=self.further(subject, records, answers))

    def _as_scores(
        self,
        rows: Rows,
        records: list[Record],
        answers: list[Answer],
        values: Floats,
        details: dict[str, Any],
        notes: tuple[str, ...],
    ) -> Scores:
        lengths = np.array([answer.length for answer in answers], dtype=np.int64)
        return Scores(
            name=self.name,
            metric=self.metric,
            role=self.role,
            unit=self.unit,
            higher_is_better=True,
            values=values,
            weights=np.ones(len(records)),
            ids=[record.where for record in records],
            prompts=[prompt_text(record) for record in records],
            answers=[answer.text for answer in answers],
            references=[record.answer for record in records],
            stopped=np.array([answer.stopped for answer in answers], dtype=np.bool_),
            lengths=lengths,
            groups=[rows.source(record) for record in records],
            details={**details, "length": length_summary(lengths)},
            notes=notes,
        )


def with_shots(rows: Rows, record: Record, examples: Sequence[Record]) -> Sequence[int]:
    """The prompt's tokens, with solved examples before it; of a plain text, its beginning.

    In a conversation the examples are earlier turns; joined verbatim they end in an empty line.
    """
    renderer = rows.renderer(record)
    if record.style == "text":
        ids = renderer.render_many([record])[0].ids
        return ids[: max(1, min(TEXT_PROMPT, len(ids) // 2))]
    return renderer.prompt(preceded(record, examples, renderer.mode(record)))


def longest_answer(rows: Rows) -> int:
    """One and a half times the longest reference answer in tokens, at least 8 and at most 512."""
    rendered = rows.rendered(rows.records)
    longest = max(len(r.ids) - len(with_shots(rows, one, ())) for r, one in zip(rendered, rows.records, strict=True))
    return min(512, max(8, longest * 3 // 2))
