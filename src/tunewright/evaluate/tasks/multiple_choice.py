"""Choice among given answers, by likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from tunewright.catalog import Paper, option
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Floats, Scores, Subject, Task, answered
from tunewright.evaluate.likelihood import choice_logprobs, tail_lengths
from tunewright.evaluate.prompts import lettered
from tunewright.evaluate.tasks._choices import by_likelihood


class MultipleChoice(Task):
    """Share of rows whose right answer is the likeliest of its choices.

    Cloze: choice = argmax of log p(text of the choice | prompt) / length, where length is 1, its tokens or its
    characters by `normalize`. Letters: the prompt goes on with a line "A. TEXT" for each choice and "Answer:", and
    choice = argmax of log p(letter | prompt). The choices are a column of the row or the same for all rows; the row's
    answer is one of them, its number (0 is the first) or its letter (A is the first).

    When to use: letters for models that follow instructions; cloze for small or untuned ones, which hardly bind a
    letter to its text and whose scores by letter stay near chance and move with the seed. Scores of the two
    formulations are not comparable.
    """

    name: ClassVar[str] = "multiple_choice"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Quantifying Variance in Evaluation Benchmarks", arxiv="2406.10229", card=226),
    )

    choices: str | tuple[str, ...] = option(
        "choices", "The row's column that lists its choices, or the choices themselves.", changes="output",
        to=["yes", "no"],
    )  # fmt: skip
    formulation: Literal["cloze", "letters"] = option(
        "cloze", "Score the choices' texts, or letters of choices listed in the prompt.", changes="output", to="letters"
    )
    normalize: Literal["none", "tokens", "characters"] = option(
        "none", "Divide log p by the choice's length in tokens or characters.", changes="output", to="tokens"
    )

    def score(self, subject: Subject) -> Scores:
        """1 or 0 per row.

        Raises `BadInput` for a row without choices, or whose answer is none of them; by letters also for more than 26
        choices, a row without a prompt, and a tokenizer that does not tell the letters apart.
        """
        rows = self.rows(subject)
        choices = [self._choices(record) for record in rows.records]
        truths = [truth(record, each) for record, each in zip(rows.records, choices, strict=True)]
        pairs = [self._asked(record, each) for record, each in zip(rows.records, choices, strict=True)]
        made = iter(rows.rendered([answered(record, answer) for record, answers in pairs for answer in answers]))
        sequences = [[next(made).ids for _ in each] for each in choices]
        self._check_letters(rows.records, sequences)
        logprobs = choice_logprobs(subject.policy, sequences, subject.batch_tokens)
        scaled = [self._scaled(p, s, c) for p, s, c in zip(logprobs, sequences, choices, strict=True)]
        asked = replace(rows, records=[record for record, _ in pairs], table=None)
        return by_likelihood(self, asked, scaled, truths, choices)

    @model_validator(mode="after")
    def _letters_have_one_length(self) -> Self:
        if self.formulation == "letters" and self.normalize != "none":
            raise ValueError("letters have no lengths to divide by: 'normalize' belongs to the formulation 'cloze'")
        return self

    def _asked(self, record: Record, choices: Sequence[str]) -> tuple[Record, Sequence[str]]:
        """The record as it is put to the model, and the answers whose likelihoods are compared."""
        if self.formulation == "letters":
            return lettered(record, choices)
        return record, [_spaced(record, choice) for choice in choices]

    def _check_letters(self, records: Sequence[Record], sequences: Sequence[Sequence[Sequence[int]]]) -> None:
        for record, each in zip(records, sequences, strict=True):
            if self.formulation == "letters" and len({tuple(ids) for ids in each}) < len(each):
                raise BadInput(
                    "two letters are the same tokens", file=record.file or None, line=record.line or None,
                    field="formulation", found="letters", expected="a tokenizer that knows the letters", hint="Use cloze.",
                )  # fmt: skip

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
