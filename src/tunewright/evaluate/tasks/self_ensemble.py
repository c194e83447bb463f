"""One model's predictions over demonstration sets and prompt formats, combined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from sklearn.metrics import f1_score

from tunewright.catalog import Paper, option
from tunewright.data.demonstrations import bare, preceded
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Floats, Further, Grid, Rows, Scores, Subject, prompt_text
from tunewright.evaluate.choices import Choices, choices_of
from tunewright.evaluate.metrics import calibration, ensembles
from tunewright.evaluate.metrics.ensembles import COMBINATIONS, Combination
from tunewright.evaluate.prompts import Format, formats
from tunewright.evaluate.tasks._asked import Asked
from tunewright.evaluate.tasks._shown import POOL, check_room, shown

COLUMNS = ("members", "accuracy", "macro F1", "ECE", "MCE", "NLL", "Brier", "confidence", "entropy", "on the front")


class SelfEnsemble(Asked):
    """Accuracy and calibration of one model whose predictions over several prompts are combined.

    Member m of a row gives p_m(choice), a softmax of log p(whole answer | prompt_m) over the choices of the row. Prompts
    differ by `ensemble`: `ex` has other demonstrations before the question for each member (`k` training rows drawn at
    random, none that asks the same; those of `supervised_icl` are taken away first), `pr` another format (`Question: ..
    Answer:`, the prompt as it is the first), `ex_pr` both. `combine`: the mean over members; the element-wise maximum;
    or the majority of votes, weighted by each voter's largest probability, with the mean of those who voted for it.

    The score is the accuracy of the ensemble; beside it stand the means of the single members. The report's table holds
    every combination and the single members: accuracy, macro F1, calibration error and its maximum over bins (`bins` of
    equal width, closed on the left, over the largest probability, for two classes too), mean -ln p(right), Brier score,
    mean confidence, mean entropy in nats, members as the cost, and whether an arm is on the front of accuracy against
    calibration error and members: none is as good in all three and better in one. Two baselines are of one member, too:
    `temperature`, softmax(ln p / T) with T fitted for each member on the share `fit` of the rows, which are not scored;
    and `batch`, softmax(ln p - mean over rows of ln p), where all rows have the same choices.

    When to use: a tuned model with few classes, whose probabilities decide something, and time for `members` answers to
    each. `pr` for a model tuned without demonstrations, `ex_pr` for one tuned by `supervised_icl`. Averaging makes an
    over-confident model less so; confidence below accuracy says that there is nothing to gain. When not: free answers,
    which are refused.
    """

    name: ClassVar[str] = "self_ensemble"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="On Task Performance and Model Calibration with Supervised and Self-Ensembled In-Context Learning",
            arxiv="2312.13772",
            card=261,
        ),
    )

    limit: int | None = option(200, "Measure on at most this many rows, evenly spaced.", changes="output", to=7, ge=2)
    ensemble: Literal["ex", "pr", "ex_pr"] = option(
        "ex_pr", "In what members differ: demonstrations, formats, both.", changes="output", to="pr"
    )
    members: int = option(20, "Prompts for every row.", changes="output", to=3, ge=2, le=500)
    k: int = option(3, "Demonstrations before a question.", changes="output", to=1, ge=1)
    combine: Combination = option(
        "mean_prob", "How members are combined for the score.", changes="output", to="max_prob"
    )
    bins: int = option(10, "Bins of the calibration error.", changes="output", to=2, ge=1)
    fit: float = option(
        0.2, "Share of the rows, evenly spaced, that the temperature is fitted on and that are not scored; 0 for none.",
        changes="output", to=0.0, ge=0, le=0.9,
    )  # fmt: skip
    seed: int = option(0, "Seed of demonstrations and formats.", changes="output", to=1, ge=0)

    @property
    def pool(self) -> int:
        """Training rows, taken at random, that demonstrations are drawn from."""
        return 0 if self.ensemble == "pr" else POOL

    def score(self, subject: Subject) -> Scores:
        """Whether the ensemble is right, per row. Raises `BadInput` for rows with free answers, without training rows
        to show, and for prompts longer than the model's context."""
        rows = self.rows(subject)
        found = choices_of(rows, self.all_rows(subject))
        if found is None:
            raise BadInput(
                f"the rows of the task '{self.name}' have free answers", field="evaluate",
                expected="classes, a column 'choices', or few answers that rows share",
            )  # fmt: skip
        every = self._members(subject, rows, found)
        truths = np.asarray(found.truths)
        held = np.unique(np.linspace(0, len(rows) - 1, int(self.fit * len(rows))).round().astype(np.int64))
        scored = np.setdiff1d(np.arange(len(rows)), held)
        arms = {"single members": every[:, scored]}
        arms |= {each: ensembles.combined(every[:, scored], each)[None] for each in COMBINATIONS}
        if len(held):
            fitted = [ensembles.fitted_temperature(one[held], truths[held]) for one in every]
            arms["temperature"] = np.stack(
                [ensembles.at_temperature(one[scored], t) for one, t in zip(every, fitted, strict=True)]
            )
        shared = len({tuple(each) for each in found.answers}) == 1
        if shared:
            arms["batch"] = np.stack([ensembles.batch_calibrated(one[scored]) for one in every])
        measured = {name: self._measured(arm, truths[scored], shared) for name, arm in arms.items()}
        return self._as_scores(
            rows.taken(scored), [found.answers[n] for n in scored], truths[scored], arms,
            Grid("Ways of answering", COLUMNS, _fronted(measured, self.members)), len(held),
        )  # fmt: skip

    def _members(self, subject: Subject, rows: Rows, found: Choices) -> Floats:
        """p [members, rows, choices], 0 behind the choices of rows that have fewer than others."""
        forms = formats(self.members, self.seed) if "pr" in self.ensemble else [Format()] * self.members
        width = max(len(each) for each in found.answers)
        made = []
        for number, form in enumerate(forms):
            asked = [self._asked(subject, rows, record, number, form) for record in rows.records]
            check_room(subject, rows, asked, "Take fewer, or 'ensemble: pr'.")
            each = found.probabilities(subject, rows, asked)
            made.append(np.stack([np.pad(p, (0, width - len(p))) for p in each]))
        return np.stack(made)

    def _asked(self, subject: Subject, rows: Rows, record: Record, number: int, form: Format) -> Record:
        if self.ensemble == "pr":
            return form.record(record)
        examples = shown(subject, record, self.k, f"{self.seed} {number}", "ensemble")
        return preceded(
            form.record(bare(record)), [form.record(one) for one in examples], rows.renderer(record).mode(record)
        )

    def _measured(self, arm: Floats, truths: np.ndarray, shared: bool) -> list[float | None]:
        """The columns between members and front, as means over the arm's predictions."""
        rows = []
        for p in arm:
            confidences, chosen = p.max(-1), p.argmax(-1)
            right = chosen == truths
            rows.append([
                right.mean(),
                f1_score(truths, chosen, average="macro", labels=range(p.shape[1]), zero_division=0) if shared else np.nan,
                calibration.expected_calibration_error(confidences, right, self.bins),
                calibration.maximum_calibration_error(confidences, right, self.bins),
                calibration.surprisal(p, truths).mean(),
                calibration.brier(p, truths),
                confidences.mean(),
                calibration.entropy(p).mean(),
            ])  # fmt: skip
        return [None if np.isnan(value) else float(value) for value in np.mean(rows, axis=0)]

    def _as_scores(
        self, rows: Rows, answers: Sequence[Sequence[str]], truths: np.ndarray, arms: Mapping[str, Floats],
        table: Grid, fitted: int,
    ) -> Scores:  # fmt: skip
        single, (whole,) = arms["single members"], arms[self.combine]
        chosen = whole.argmax(-1)
        right = chosen == truths
        losses = np.stack([calibration.surprisal(one, truths) for one in single])
        squares = np.stack([((one - np.eye(one.shape[1])[truths]) ** 2).sum(-1) for one in (*single, whole)])
        notes = (f"{fitted} rows served to fit the temperature and were not scored",) if fitted else ()
        return Scores(
            name=self.name,
            metric="accuracy",
            role=self.role,
            unit="share",
            higher_is_better=True,
            values=right.astype(np.float64),
            weights=np.ones(len(rows)),
            ids=[record.where for record in rows.records],
            prompts=[prompt_text(bare(record)) for record in rows.records],
            answers=[each[place] for each, place in zip(answers, chosen, strict=True)],
            references=[record.answer for record in rows.records],
            confidences=whole.max(-1),
            correct=right,
            groups=[rows.source(record) for record in rows.records],
            further={
                "accuracy of single members": Further((single.argmax(-1) == truths).mean(0), "share", True),
                "-ln p(right)": Further(calibration.surprisal(whole, truths), "score", False),
                "-ln p(right) of single members": Further(losses.mean(0), "score", False),
                "brier": Further(squares[-1], "score", False),
                "brier of single members": Further(squares[:-1].mean(0), "score", False),
            },
            grids=(table, self._reliability(whole, right)),
            details={"members": self.members},
            notes=notes,
        )

    def _reliability(self, whole: Floats, right: np.ndarray) -> Grid:
        confidences = whole.max(-1)
        where = calibration.bin_of(confidences, self.bins)
        rows = {
            f"{each / self.bins:.2g} to {(each + 1) / self.bins:.2g}": (
                float(inside.sum()), *(float(of[inside].mean()) if inside.any() else None for of in (confidences, right)),
            )
            for each in range(self.bins) for inside in [where == each]
        }  # fmt: skip
        return Grid("Reliability of the ensemble", ("rows", "confidence", "accuracy"), rows)


class _Arm(NamedTuple):
    accuracy: float
    error: float
    cost: float

    def below(self, other: _Arm) -> bool:
        """Whether the other is at least as good in everything, and better in something."""
        mine, theirs = ((arm.accuracy, -arm.error, -arm.cost) for arm in (self, other))
        return mine != theirs and all(m <= t for m, t in zip(mine, theirs, strict=True))


def _fronted(measured: Mapping[str, Sequence[float | None]], members: int) -> dict[str, list[float | None]]:
    """Every arm with its cost before its numbers, and 1 behind them where it is on the front, else 0."""
    costs = {name: float(members if name in COMBINATIONS else 1) for name in measured}
    arms = {name: _Arm(row[0] or 0.0, row[2] or 0.0, costs[name]) for name, row in measured.items()}
    on = {name: float(not any(arm.below(other) for other in arms.values())) for name, arm in arms.items()}
    return {name: [costs[name], *row, on[name]] for name, row in measured.items()}
