"""Choice among given answers, by likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from tunewright.catalog import option
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Floats, Scores, Subject, Task, answered
from tunewright.evaluate.likelihood import choice_logprobs, tail_lengths
from tunewright.evaluate.tasks._choices import by_likelihood


class MultipleChoice(Task):
    """Share of rows whose right answer is the likeliest of its choices.

    Choice = argmax of log p(choice | prompt) / length(choice), where length is 1, its tokens or its characters by
    `normalize`. The choices are a column of the row or the same for all rows; the row's answer is one of them, its
    number (0 is the first) or its letter (A is the first).
    """

    name: ClassVar[str] = "multiple_choice"

    choices: str | tuple[str, ...] = option(
        "choices", "The row's column that lists its choices, or the choices themselves.", changes="output",
        to=["yes", "no"],
    )  # fmt: skip
    normalize: Literal["none", "tokens", "characters"] = option(
        "none", "Divide log p by the choice's length in tokens or characters.", changes="output", to="tokens"
    )

    def score(self, subject: Subject) -> Scores:
        """1 or 0 per row. Raises `BadInput` for a row without choices, or whose answer is none of them."""
        rows = self.rows(subject)
        choices = [self._choices(record) for record in rows.records]
        truths = [truth(record, each) for record, each in zip(rows.records, choices, strict=True)]
        made = iter(
            rows.rendered(
                [
                    answered(record, _spaced(record, choice))
                    for record, each in zip(rows.records, choices, strict=True)
                    for choice in each
                ]
            )
        )
        sequences = [[next(made).ids for _ in each] for each in choices]
        logprobs = choice_logprobs(subject.policy, sequences, subject.batch_tokens)
        scaled = [self._scaled(p, s, c) for p, s, c in zip(logprobs, sequences, choices, strict=True)]
        return by_likelihood(self, rows, scaled, truths, choices)

    def _choices(self, record: Record) -> Sequence[str]:
        found = record.columns.get(self.choices) if isinstance(self.choices, str) else self.choices
        if isinstance(found, dict):
            found = found.get("text")  # as some hub data sets keep them: {text: [...], label: [...]}
        if not isinstance(found, list | tuple) or len(found) < 2:
            raise BadInput(
                "the row lists no choices", file=record.file or None, line=record.line or None, field=str(self.choices),
                found=found, expected="a list of at least two texts",
                hint="Name the column, or the choices, under 'choices' of the task multiple_choice.",
            )  # fmt: skip
        return [str(choice) for choice in found]

    def _scaled(self, logprobs: Floats, sequences: Sequence[Sequence[int]], choices: Sequence[str]) -> Floats:
        if self.normalize == "none":
            return logprobs
        lengths = tail_lengths(sequences) if self.normalize == "tokens" else [len(choice) for choice in choices]
        return logprobs / [max(1, length) for length in lengths]


def truth(record: Record, choices: Sequence[str]) -> int:
    """The index of the right choice. Raises `BadInput` when the record's answer is none of them."""
    answer = record.answer.strip()
    stripped = [choice.strip() for choice in choices]
    if answer in stripped:
        return stripped.index(answer)
    number = int(answer) if answer.isdecimal() else ord(answer.upper()) - ord("A") if len(answer) == 1 else -1
    if not 0 <= number < len(choices):
        raise BadInput(
            "the answer is none of the choices", file=record.file or None, line=record.line or None, found=answer,
            expected=f"one of {list(choices)}, its number from 0, or its letter",
        )  # fmt: skip
    return number


def _spaced(record: Record, choice: str) -> str:
    leading = record.answer[: len(record.answer) - len(record.answer.lstrip())]
    return leading + choice
