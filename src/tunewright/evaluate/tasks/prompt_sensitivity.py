"""How far the likelihood of an answer moves when the same thing is asked in another way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import field_validator
from scipy.stats import entropy

from tunewright.catalog import Need, Paper, option
from tunewright.data.records import Record
from tunewright.evaluate.base import Grid, Role, Rows, Scores, Subject, prompt_text, tabulated
from tunewright.evaluate.likelihood import sequence_losses
from tunewright.evaluate.metrics.coherence import coherence
from tunewright.evaluate.metrics.posix import prompt_sensitivity
from tunewright.evaluate.prompts import formats, misspelling
from tunewright.evaluate.tasks._asked import Asked
from tunewright.evaluate.tasks._greedy import greedy
from tunewright.models.generate import Answer

Variation = Literal["spelling", "template"]

COLUMNS = ("posix", "different responses", "entropy", "coherence", "likelihood variance", "accuracy spread")


class PromptSensitivity(Asked):
    """POSIX: the change per token of a response's log-likelihood when its prompt is replaced by an equivalent one.

    For a row with prompts x_1..x_N of one intent (the prompt as it is, misspelt ones, other formats, `paraphrases`) and
    the greedy response y_j to each, of L_j tokens with the end token where there is one:

        psi = Sum_i Sum_j |log P(y_j | x_i) - log P(y_j | x_j)| / L_j / (N (N - 1))

    in nats per token, at least 0; the score is the mean over rows, lower is better. `legacy` is the paper's package,
    which compares two responses under one prompt: its terms are |log P(y_i | x_j) - log P(y_j | x_j)| / `max_new_tokens`.

    A table has, for all prompts and for each kind of variation with the original, beside the mean of psi: the share of
    different responses; the entropy of the responses in nats; their coherence, the mean cosine between two of them; the
    variance of log P(y_j | x_i) / L_j over i; each the mean over rows; and the largest difference of the accuracies
    that two prompts have over the rows. A response's vector is the mean of the last hidden states of the model under
    `supplies: {embedder: ...}` (a folder, a hub id or `nano`), by default of this model before tuning: its cosines lie
    close to 1 for all texts and tell less than those of a model that was made to compare texts.

    When to use: to see what tuning on one wording costs. When not: rows of plain text (left out with a warning). A
    model that always says the same is not sensitive, and not good: read it beside the accuracy.
    """

    name: ClassVar[str] = "prompt_sensitivity"
    role: ClassVar[Role] = "other"
    short: ClassVar[bool] = False
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="POSIX: A Prompt Sensitivity Index For Large Language Models", arxiv="2410.02185", card=196),
    )

    limit: int | None = option(50, "Measure on at most this many rows, evenly spaced.", changes="output", to=2, ge=1)
    variants: int = option(2, "Prompts of each kind of variation beside the original.", changes="output", to=1, ge=1)
    variations: tuple[Variation, ...] = option(
        ("spelling", "template"), "How prompts are varied.", changes="output", to=("spelling",), min_length=1
    )
    paraphrases: tuple[str, ...] = option(
        (), "Other ways to ask, with {prompt} where the prompt's last turn stands; varied in too where given.",
        changes="output", to=("Please answer. {prompt}",),
    )  # fmt: skip
    rate: float = option(0.07, "Share of the letters that are misspelt.", changes="output", to=0.5, gt=0, le=1)
    max_new_tokens: int = option(8, "Longest response in tokens.", changes="output", to=1, ge=1)
    legacy: bool = option(
        False, "Compare responses under one prompt, as the paper's package does, not one under two.", changes="output",
        to=True,
    )  # fmt: skip
    seed: int = option(0, "Seed of the variations.", changes="output", to=1, ge=0)

    @field_validator("variations")
    @classmethod
    def _each_once(cls, value: tuple[Variation, ...]) -> tuple[Variation, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a variation twice")
        return value

    @field_validator("paraphrases")
    @classmethod
    def _each_asks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for wording in value:
            if "{prompt}" not in wording:
                raise ValueError(f"'{wording}' has no {{prompt}}")
        return value

    @property
    def accepts(self) -> frozenset[Need]:
        return frozenset({"embedder"})

    @property
    def _kinds(self) -> dict[str, int]:
        """Kind of variation -> prompts of it."""
        return dict.fromkeys(self.variations, self.variants) | (
            {"paraphrase": len(self.paraphrases)} if self.paraphrases else {}
        )

    def score(self, subject: Subject) -> Scores:
        """psi per row, in nats per token."""
        rows = self.rows(subject)
        variants = [self._variants(record, number) for number, record in enumerate(rows.records)]
        n = len(variants[0])
        flat = [one for each in variants for one in each]
        answers = greedy(subject, rows, flat, self.max_new_tokens)
        tables = np.stack([
            _logprobs(subject, rows, flat[start : start + n], answers[start : start + n])
            for start in range(0, len(flat), n)
        ])  # fmt: skip
        lengths = np.array([len(answer.ids) for answer in answers]).reshape(-1, n)
        return Scores(
            name=self.name,
            metric="posix",
            role=self.role,
            unit="nats",
            higher_is_better=False,
            values=np.array([self._psi(a, length) for a, length in zip(tables, lengths, strict=True)]),
            weights=np.ones(len(rows)),
            ids=[record.where for record in rows.records],
            prompts=[prompt_text(record) for record in rows.records],
            grids=(self._by_kind(subject, tables, lengths, answers, [one.answer.strip() for one in rows.records]),),
        )

    def _psi(self, logprobs: Any, lengths: Any) -> float:
        if self.legacy:
            return prompt_sensitivity(logprobs.T, np.full(len(lengths), self.max_new_tokens))
        return prompt_sensitivity(logprobs, lengths)

    def _variants(self, record: Record, number: int) -> list[Record]:
        rng = random.Random(f"{self.seed} {number}")
        others = formats(self.variants + 1, self.seed)[1:]
        made = {
            "spelling": lambda: [misspelling(record, self.rate, rng) for _ in range(self.variants)],
            "template": lambda: [form.record(record) for form in others],
            "paraphrase": lambda: [_worded(record, wording) for wording in self.paraphrases],
        }
        return [record, *(one for kind in self._kinds for one in made[kind]())]

    def _by_kind(
        self, subject: Subject, tables: Any, lengths: Any, answers: Sequence[Answer], wanted: Sequence[str]
    ) -> Grid:
        """The companions over all prompts, and over each kind of variation with the original."""
        ends = np.cumsum([1, *self._kinds.values()])
        places = {"all": list(range(int(ends[-1])))}
        places |= {kind: [0, *range(*ends[at : at + 2])] for at, kind in enumerate(self._kinds)}
        texts = np.array([answer.text.strip() for answer in answers], dtype=object).reshape(lengths.shape)
        different = sorted(set(texts.flat))
        vectors = dict(zip(different, subject.embed(different), strict=True)) if subject.embed else {}
        right = (texts == np.array(wanted, dtype=object)[:, None]).mean(0)
        rows: dict[str, list[float | None]] = {}
        for kind, chosen in places.items():
            said, each = texts[:, chosen], lengths[:, chosen]
            own = tables[:, chosen][:, :, chosen]
            counts = [np.unique(row.astype(str), return_counts=True)[1] for row in said]
            rows[kind] = [
                float(np.mean([self._psi(a, length) for a, length in zip(own, each, strict=True)])),
                float(np.mean([len(count) / len(chosen) for count in counts])),
                float(np.mean([entropy(count) for count in counts])),
                float(np.mean([coherence(row, [vectors[t] for t in row]) for row in said])) if vectors else None,
                float((own / each[:, None, :]).var(1).mean()),
                float(np.ptp(right[chosen])),
            ]
        return Grid("What changes with the prompt, by kind of variation", COLUMNS, rows)


def _worded(record: Record, wording: str) -> Record:
    *before, asked, answer = record.turns
    return replace(record, turns=(*before, replace(asked, content=wording.replace("{prompt}", asked.content)), answer))


def _logprobs(subject: Subject, rows: Rows, records: Sequence[Record], answers: Sequence[Answer]) -> Any:
    """log P(response j | prompt i) as [N, N]; equal prompts and equal responses are computed once."""
    prompts = [tuple(rows.renderer(record).prompt(record)) for record in records]
    responses = [tuple(answer.ids) for answer in answers]
    wanted = list(dict.fromkeys((x, y) for x in prompts for y in responses))
    table = tabulated(([*x, *y], [0.0] * len(x) + [1.0] * len(y)) for x, y in wanted)
    losses, _ = sequence_losses(subject.policy, table, subject.batch_tokens)
    known = dict(zip(wanted, -losses, strict=True))
    return np.array([[known[x, y] for y in responses] for x in prompts])
