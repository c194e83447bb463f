"""Whether an ability is forgotten, or only not shown: asked through a text written otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import model_validator

from tunewright.catalog import Paper, option
from tunewright.data.records import Record, Turn
from tunewright.document import find_path
from tunewright.errors import BadInput
from tunewright.evaluate.base import Floats, Further, Grid, Rows, Scores, Subject, answered, prompt_text
from tunewright.evaluate.language_test import QUERIES, RULES, Case, begins, cases
from tunewright.evaluate.metrics.answers import exact_match
from tunewright.evaluate.tasks._asked import Asked
from tunewright.evaluate.tasks._generated import longest_answer
from tunewright.evaluate.tasks._greedy import greedy
from tunewright.evaluate.transforms import CIPHERS, Transform, read_words
from tunewright.models.generate import context_length

PLAIN = "as it is"

_SMALL = {"evaluate.test": "language", "evaluate.n_prompts": 3, "evaluate.transforms": ("caesar",)}


class ConjugatePrompting(Asked):
    """Share of right answers s^-1(LM(s(prompt))) to prompts written otherwise, beside that of the prompts as they are.

    s is a transform with an exact inverse: `leet` (letters swapped with signs), `pig_latin` (leading consonants behind a
    hyphen), `caesar` (letters three places on), and a table of `words` of another language. A prompt that does not look
    like the tuning data may bring an ability back that tuning has hidden:

        recovery = (conj(tuned) - plain(tuned)) / (plain(base) - plain(tuned))

    with plain and conj the shares of right answers without and with s; undefined where tuning cost nothing. The base
    model is measured inside the task, since conj(base) is the control: a base that does not answer through s shows
    nothing by a tuned model that does not. The score is conj, the mean over transforms; the report's table has the rest.

    `test: rows` asks the rows of the recipe or of `data`, right when the text is the reference's. `test: language` asks
    built-in prompts: `k_shot` examples of a rule (repeat, upper case), then a query that invites another answer (a sum; a
    sentence whose first word is a blank). Right is the rule's answer, the query's first word under the rule; the answer to
    the query stands beside it (accepted with and without the rule); an answer need only begin so. The cells are rule x
    query x transform with `n_prompts` each.

    When to use: after tuning that cost an ability, before it is trained again. For a small model use a language that it
    was trained on, by word table: it has never seen the ciphers. When not: rows of plain text, or long answers.
    """

    name: ClassVar[str] = "conjugate_prompting"
    files: ClassVar[tuple[str, ...]] = ("words",)
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Understanding Catastrophic Forgetting in Language Models via Implicit Inference",
            arxiv="2309.10105",
            card=52,
        ),
    )

    limit: int | None = option(100, "Measure on at most this many rows, evenly spaced.", changes="output", to=2, ge=1)
    test: Literal["rows", "language"] = option(
        "rows", "What is asked: rows, or built-in prompts with two answers.", changes="output", to="language",
        given={name: value for name, value in _SMALL.items() if name != "evaluate.test"},
    )  # fmt: skip
    transforms: tuple[Literal["leet", "pig_latin", "caesar"], ...] = option(
        ("leet", "pig_latin", "caesar"), "How prompts are written otherwise.", changes="output", to=("caesar",)
    )
    words: str | None = option(
        None, "A JSON or YAML file {word: word of another language}, a further transform.", changes="output",
        to="words.json",
    )  # fmt: skip
    max_new_tokens: int | None = option(
        None, "Longest answer in tokens; default one and a half times the longest right one, written otherwise.",
        changes="output", to=1, ge=1,
    )  # fmt: skip
    n_prompts: int = option(100, "Built-in prompts per rule and query.", changes="output", to=2, ge=1, given=_SMALL)
    k_shot: int = option(
        2, "Examples of the rule in a built-in prompt.", changes="output", to=1, ge=0,
        given=_SMALL,
    )  # fmt: skip
    instruction: bool = option(
        True, "Begin a built-in prompt with the rule in words.", changes="output", to=False,
        given=_SMALL,
    )  # fmt: skip
    seed: int = option(0, "Seed of the built-in prompts.", changes="output", to=1, ge=0, given=_SMALL)

    @model_validator(mode="after")
    def _something_is_written_otherwise(self) -> Self:
        if len(set(self.transforms)) < len(self.transforms):
            raise ValueError("names a transform twice")
        if not self.transforms and self.words is None:
            raise ValueError("no transform: name one under 'transforms', or a file under 'words'")
        return self

    def omitted(self, subject: Subject) -> str | None:
        """The warning for rows that have no prompt or no short answer; the built-in prompts need none."""
        return None if self.test == "language" else super().omitted(subject)

    def score(self, subject: Subject) -> Scores:
        """conj per row or built-in prompt.

        Raises `BadInput` for a table of words without an inverse, and for prompts longer than the model's context.
        """
        written: dict[str, Transform] = {name: CIPHERS[name] for name in self.transforms}
        if self.words is not None:
            written["words"] = read_words(find_path(self.words, subject.origin, ("evaluate", "words")))
        asked = self._built_in(subject) if self.test == "language" else self._of_rows(subject)
        own = self._judged(subject, asked, written)
        base = own
        if not subject.policy.at_start:
            with subject.policy.start() as policy:
                base = self._judged(replace(subject, policy=policy), asked, written)
        records = asked.rows.records
        right = {name: values[:, 0] for name, (values, _) in own.items()}
        told = zip(*([f"{name}: {text}" for text in texts] for name, (_, texts) in own.items()), strict=True)
        return Scores(
            name=self.name,
            metric="exact_match" if self.test == "rows" else "rule_followed",
            role=self.role,
            unit="share",
            higher_is_better=True,
            values=np.mean([right[name] for name in written], axis=0),
            weights=np.ones(len(records)),
            ids=[record.where for record in records],
            prompts=[prompt_text(record) for record in records],
            answers=["\n".join(each) for each in told],
            references=asked.wanted,
            further={name: Further(values, "share", True) for name, values in right.items()},
            grids=(_table(asked, *({name: values for name, (values, _) in side.items()} for side in (own, base))),),
        )

    def _of_rows(self, subject: Subject) -> _Questions:
        rows = self.rows(subject)
        judge = lambda number, text: (exact_match(text, rows.records[number].answer),)
        wanted = [record.answer for record in rows.records]
        return _Questions(rows, judge, wanted, {"": np.arange(len(rows))}, ("right",))

    def _built_in(self, subject: Subject) -> _Questions:
        count = min(self.n_prompts, subject.limit or self.n_prompts)
        like = self.all_rows(subject).records[0]
        every: list[Case] = []
        cells: dict[str, np.ndarray] = {}
        for rule, query in product(RULES, QUERIES):
            cells[f"{rule}, {query}"] = np.arange(len(every), len(every) + count)
            every += cases(rule, query, count, self.k_shot, self.instruction, self.seed)
        records = [
            Record(
                (Turn("user", case.prompt), Turn("assistant", max((case.by_rule, *case.by_instruction), key=len))),
                "chat" if like.style == "chat" else "completion", source=like.source, file="built-in", line=number,
            )
            for number, case in enumerate(every, 1)
        ]  # fmt: skip
        judge = lambda number, text: (
            begins(text, (every[number].by_rule,)),
            begins(text, every[number].by_instruction),
        )
        rows = replace(self.all_rows(subject), records=records, table=None)
        wanted = [case.by_rule for case in every]
        return _Questions(rows, judge, wanted, cells, ("rule followed", "instruction followed"))

    def _judged(self, subject: Subject, asked: _Questions, written: Mapping[str, Transform]) -> dict[str, _Found]:
        """What is found with the plain prompts and through every transform."""
        same = Transform(lambda text: text, lambda text: text)
        return {name: self._answered(subject, asked, way) for name, way in {PLAIN: same, **written}.items()}

    def _answered(self, subject: Subject, asked: _Questions, way: Transform) -> _Found:
        records = [_rewritten(record, way) for record in asked.rows.records]
        rows = replace(asked.rows, records=records, table=None)
        new = self.max_new_tokens or longest_answer(rows)
        longest = max(len(rows.renderer(record).prompt(record)) for record in records)
        room = context_length(subject.policy.model)
        if room is not None and longest + new > room:
            raise BadInput(
                f"the prompts of the task '{self.name}' and their answers are longer than the model's context",
                field="evaluate", found=f"{longest} and {new} tokens", expected=f"at most {room}",
            )  # fmt: skip
        texts = [way.back(answer.text) for answer in greedy(subject, rows, records, new)]
        return np.array([asked.judge(number, text) for number, text in enumerate(texts)]), texts


_Found = tuple[Floats, list[str]]
"""Values [questions, judgements] of answers, and the answers written back."""


class _Questions(NamedTuple):
    """`rows` to ask, the `judge` of (number of the row, answer), right answers, rows of every cell, what is judged."""

    rows: Rows
    judge: Callable[[int, str], tuple[float, ...]]
    wanted: list[str]
    cells: Mapping[str, np.ndarray]
    judged: Sequence[str]


def _rewritten(record: Record, way: Transform) -> Record:
    turns = tuple(replace(turn, content=way.there(turn.content)) for turn in record.prompt)
    return answered(replace(record, turns=(*turns, record.turns[-1])), way.there(record.answer))


def _table(asked: _Questions, own: Mapping[str, Floats], base: Mapping[str, Floats]) -> Grid:
    """Per cell and transform: the means of model and base, the drop from base to model, and the recovery."""
    rows: dict[str, list[float | None]] = {}
    for cell, places in asked.cells.items():
        lost = float(base[PLAIN][places, 0].mean() - own[PLAIN][places, 0].mean())
        for name in own:
            mine, theirs = (side[name][places].mean(0) for side in (own, base))
            gained = float(mine[0] - own[PLAIN][places, 0].mean())
            means = [float(value) for pair in zip(mine, theirs, strict=True) for value in pair]
            recovery = gained / lost if lost > 0 and name != PLAIN else None
            rows[f"{cell}, {name}" if cell else name] = [*means, means[1] - means[0], recovery]
    heads = [head for judged in asked.judged for head in (judged, f"{judged}, base")]
    return Grid("Plain and conjugate prompts", (*heads, "drop", "recovery"), rows)
