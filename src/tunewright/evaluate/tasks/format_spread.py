"""How far a score moves with the format of the prompt alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from tunewright.catalog import Paper, option
from tunewright.data.demonstrations import bare, preceded
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Floats, Role, Rows, Scores, Subject, prompt_text
from tunewright.evaluate.choices import Choices, choices_of
from tunewright.evaluate.metrics.format_spread import Pick, thompson_extremes
from tunewright.evaluate.prompts import Format, formats
from tunewright.evaluate.tasks._asked import Asked
from tunewright.evaluate.tasks._greedy import greedy
from tunewright.evaluate.tasks._shown import POOL, check_room, shown


class FormatSpread(Asked):
    """Accuracy of the best prompt format minus that of the worst, over formats that mean the same.

    A format writes the prompt as DESCRIPTOR SEPARATOR text SPACE DESCRIPTOR SEPARATOR (`Question: ... Answer:`); the
    text is the same in all of them, and the prompt as it is counts as one. With `list_choices` the choices stand behind
    the text, numbered and wrapped in each format's way; with `k`, so many solved training rows stand before each question
    in the same format, the same rows in all of them (the paper shows five). spread = max_f accuracy(f) - min_f
    accuracy(f), 0 to 1, lower is better. A row is right when its reference is the likeliest of its choices or, with
    `metric: exact_prefix` or where answers are free, when the greedy answer begins with it. The value of a row is
    [right in the best format] - [right in the worst], so that the mean is the spread; its interval speaks about these
    two formats, not about the choice of them, and noise alone makes the best and the worst of many formats differ.

    With a `budget` of row evaluations, Thompson sampling looks for the extremes (half of the budget each): the prior
    of a format is Beta(a, 5) with a = max(1.1, 5 mu / (1 - mu)) and mu the accuracy of the prompt as it is. The spread
    of the two formats it ends with and of the prompt as it is, measured on every row, is a lower bound.

    When to use: before a number is compared with one that was measured in another format. When not: rows of plain
    text; they are left out with a warning.
    """

    name: ClassVar[str] = "format_spread"
    role: ClassVar[Role] = "other"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Quantifying Language Models' Sensitivity to Spurious Features in Prompt Design or: How I learned to "
            "start worrying about prompt formatting",
            arxiv="2310.11324",
            card=194,
        ),
    )

    formats: int = option(8, "Formats, the prompt as it is among them.", changes="output", to=3, ge=2, le=500)
    limit: int | None = option(100, "Measure on at most this many rows, evenly spaced.", changes="output", to=2, ge=1)
    metric: Literal["probability_ranking", "exact_prefix"] = option(
        "probability_ranking", "What makes an answer right, where rows choose among answers.", changes="output",
        to="exact_prefix", given={"evaluate.data": "classes.jsonl"},
    )  # fmt: skip
    budget: int | None = option(
        None, "Row evaluations spent on the search; default every format on every row.", changes="output", to=40, ge=2
    )
    list_choices: bool = option(
        False, "Also list the choices in the prompt (but not in the prompt as it is), numbered in each format's way.",
        changes="output", to=True, given={"evaluate.data": "classes.jsonl"},
    )  # fmt: skip
    k: int = option(
        0, "Demonstrations before a question: training rows drawn by `seed`, none asking the same.", changes="output",
        to=2, ge=0,
    )  # fmt: skip
    batch: int = option(
        20, "Rows evaluated at once in the search.", changes="output", to=5, ge=1, given={"evaluate.budget": 40}
    )
    pick: Pick = option(
        "posterior_mean", "How the search takes its extremes: by the rate of right rows or by the posterior mean, "
        "which one lucky batch cannot win.", changes="output", to="empirical", given={"evaluate.budget": 60, "evaluate.batch": 3},
    )  # fmt: skip
    seed: int = option(0, "Seed of formats, demonstrations and search.", changes="output", to=1, ge=0)

    @property
    def pool(self) -> int:
        """Training rows, taken at random, that demonstrations are drawn from."""
        return POOL if self.k else 0

    def score(self, subject: Subject) -> Scores:
        """[right in the best format] - [right in the worst] per row; the accuracy of every format in the details."""
        rows = self.rows(subject)
        found = choices_of(rows, self.all_rows(subject)) if self.metric == "probability_ranking" else None
        if self.list_choices and found is None:
            raise BadInput(
                "there are no choices to list", field="evaluate.list_choices", found="free answers",
                expected="rows that choose among answers, and metric: probability_ranking",
            )  # fmt: skip
        if self.k:
            rows = replace(rows, records=[bare(record) for record in rows.records], table=None)
        every = formats(self.formats, self.seed, max(map(len, found.answers)) if self.list_choices and found else 0)
        examples = self._examples(subject, rows)
        right: dict[int, Floats] = {}

        def whole(arm: int) -> Floats:
            if arm not in right:
                right[arm] = outcomes(subject, rows, every[arm], found, examples)
            return right[arm]

        if self.budget is None:
            seen = list(range(len(every)))
        else:
            partly = lambda arm, items: outcomes(
                subject, rows.taken(items), every[arm], _taken(found, items), [examples[i] for i in items]
            )
            ends = thompson_extremes(
                partly, len(every), len(rows), float(whole(0).mean()), self.budget, self.batch, self.pick, self.seed
            )
            seen = sorted({0, ends.best, ends.worst})
        means = {arm: float(whole(arm).mean()) for arm in seen}
        best, worst = max(means, key=lambda arm: means[arm]), min(means, key=lambda arm: means[arm])
        return Scores(
            name=self.name,
            metric="spread",
            role=self.role,
            unit="share",
            higher_is_better=False,
            values=whole(best) - whole(worst),
            weights=np.ones(len(rows)),
            ids=[record.where for record in rows.records],
            prompts=[prompt_text(record) for record in rows.records],
            details={"formats": {str(every[arm]): mean for arm, mean in means.items()}} | _quartiles(means.values()),
        )

    def _examples(self, subject: Subject, rows: Rows) -> list[list[Example]]:
        """What stands before every row, the same in each format."""
        if not self.k:
            return [[] for _ in rows.records]
        found = [shown(subject, record, self.k, str(self.seed), "evaluate.k") for record in rows.records]
        listed: Sequence[Sequence[str]] = [()] * sum(map(len, found))
        if self.list_choices:
            choices = choices_of(replace(rows, records=[one for each in found for one in each]), self.all_rows(subject))
            if choices is None:
                raise BadInput(
                    "there are no choices to list in the demonstrations", field="evaluate.list_choices",
                    found="training rows with other answers than the evaluation rows", hint="Leave it out.",
                )  # fmt: skip
            listed = [[text.strip() for text in each] for each in choices.answers]
        rest = iter(listed)
        return [[(one, next(rest)) for one in each] for each in found]


Example = tuple[Record, Sequence[str]]
"""A demonstration and the choices that are listed in it."""


def outcomes(
    subject: Subject, rows: Rows, form: Format, choices: Choices | None, examples: Sequence[Sequence[Example]] = ()
) -> Floats:
    """1.0 or 0.0 per row [rows]: whether its answer is right when its prompt and `examples` have this format.

    Raises `BadInput` for prompts with examples that are longer than the model's context.
    """
    texts = [[text.strip() for text in each] for each in choices.answers] if choices else [()] * len(rows)
    records = [form.record(record, each) for record, each in zip(rows.records, texts, strict=True)]
    if any(examples):
        shown = [[form.record(one, listed) for one, listed in each] for each in examples]
        records = [preceded(r, each, rows.renderer(r).mode(r)) for r, each in zip(records, shown, strict=True)]
        check_room(subject, rows, records, "Take fewer.")
    if choices is None:
        answers = greedy(subject, rows, records)
        begins = [a.text.strip().startswith(r.answer.strip()) for a, r in zip(answers, records, strict=True)]
        return np.array(begins, dtype=np.float64)
    made = choices.probabilities(subject, rows, records)
    return np.array([p.argmax() == t for p, t in zip(made, choices.truths, strict=True)], dtype=np.float64)


def _quartiles(accuracies: Collection[float]) -> dict[str, list[float]]:
    """The quartiles over all formats; none of the few that a search ends with."""
    return {"quartiles": np.quantile(list(accuracies), [0.25, 0.5, 0.75]).tolist()} if len(accuracies) > 3 else {}


def _taken(choices: Choices | None, items: Sequence[int]) -> Choices | None:
    return choices and Choices([choices.answers[i] for i in items], [choices.truths[i] for i in items])
