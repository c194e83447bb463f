"""Measuring a model, comparing two, and saying in one sentence what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field

from tunewright.catalog import Method
from tunewright.evaluate import statistics
from tunewright.evaluate.base import Role, Scores, Subject, Task, Unit
from tunewright.evaluate.metrics.calibration import calibration_columns, calibration_from_sums
from tunewright.evaluate.statistics import FEWEST, Interval

GENERATIONS = 32
"""Answers generated for the stop rate when no task of the recipe generates."""

SHOWN: dict[Unit, tuple[float, int, str]] = {
    "share": (100.0, 1, "points"),
    "nats": (1.0, 3, "nats per token"),
    "tokens": (1.0, 1, "tokens"),
    "score": (1.0, 3, ""),
}
"""Unit -> factor, decimals and word with which a difference is told."""

Finding = Literal["better", "worse", "higher", "lower", "no difference found", "too few examples"]


class Measure(BaseModel):
    """One quantity before and after, with the 95% interval of the difference over the same `n` examples.

    `low` and `high` are a percentile bootstrap over examples; for a single model they do not speak about training
    runs with other seeds. They are None where one example allows none.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Role
    metric: str
    before: float
    after: float
    delta: float
    low: float | None
    high: float | None
    n: int
    higher_is_better: bool
    unit: Unit

    @computed_field  # type: ignore[prop-decorator]
    @property
    def finding(self) -> Finding:
        """What the interval allows to say; lengths are higher or lower, everything else is better or worse."""
        if self.low is None or self.high is None or self.n < FEWEST:
            return "too few examples"
        if self.low <= 0 <= self.high:
            return "no difference found"
        if self.unit == "tokens":
            return "higher" if self.delta > 0 else "lower"
        return "better" if (self.delta > 0) == self.higher_is_better else "worse"


def measure(subject: Subject, tasks: Sequence[Method], automatic: bool = True) -> list[Scores]:
    """The scores of the subject on every task that can be measured, under names of their own.

    `automatic` adds the stop rate where tasks are named but none of them generates.
    """
    wanted = [task for task in tasks if isinstance(task, Task) and task.omitted(subject) is None]
    if automatic and wanted and not any(task.generates for task in wanted):
        from tunewright.evaluate.tasks.stop_rate import StopRate

        wanted.append(StopRate(limit=GENERATIONS))
    return [replace(task.score(subject), name=name) for task, name in zip(wanted, names(wanted), strict=True)]


def measured(subject: Subject, tasks: Sequence[Method]) -> list[str]:
    """The names of the scores that `measure` gives for these tasks."""
    return names([task for task in tasks if isinstance(task, Task) and task.omitted(subject) is None])


def omitted(subject: Subject, tasks: Sequence[Method]) -> list[str]:
    """The warnings of the tasks that `measure` leaves out."""
    reasons = [task.omitted(subject) for task in tasks if isinstance(task, Task)]
    return [reason for reason in reasons if reason]


def with_shots(subject: Subject, tasks: Sequence[Method]) -> list[Scores]:
    """The scores with few-shot prompts of every task that asks for `shots`, named like those of `measure`."""
    from tunewright.evaluate.tasks._generated import Generated

    wanted = [task for task in tasks if isinstance(task, Task) and task.omitted(subject) is None]
    return [
        replace(task.score_with_shots(subject), name=name, details={"shots": task.shots})
        for task, name in zip(wanted, names(wanted), strict=True)
        if isinstance(task, Generated) and task.shots
    ]


def names(tasks: Sequence[Task]) -> list[str]:
    """A name for each task: its own; where several share it, with the name of their data, and a number if need be."""
    plain = [task.name for task in tasks]
    named = [
        f"{task.name} ({Path(task.data).stem})" if task.data and plain.count(task.name) > 1 else task.name
        for task in tasks
    ]
    return [
        name if named.count(name) == 1 or not named[:n].count(name) else f"{name} {named[:n].count(name) + 1}"
        for n, name in enumerate(named)
    ]


def compare(before: Sequence[Scores], after: Sequence[Scores], few_shot: Sequence[Scores] = ()) -> list[Measure]:
    """Every quantity before and after, paired by example.

    Besides each task's own: its further quantities, each source where there are several, the calibration error where answers have
    probabilities, the stop rate and the answer length where answers were generated, and against the base model with
    few-shot prompts where `few_shot` holds its scores. Raises `ValueError` when the examples are not the same.
    """
    pairs = [(b, a) for b in before for a in after if b.name == a.name]
    found = [m for b, a in pairs if b.metric != "stop_rate" for m in _of_task(b, a)]
    found += [one for b, a in pairs for one in _further(b, a)]
    found += [_calibration(b, a) for b, a in pairs if b.confidences is not None]
    shots = [(f, a) for f in few_shot for a in after if f.name == a.name]
    for base, tuned in shots:
        label = f"{tuned.name}, base with {base.details['shots']} examples"
        found.append(_difference(replace(base, name=label, role="other"), tuned))
    generated = [(b, a) for b, a in pairs if b.stopped is not None]
    return found + (_of_answers(generated) if generated else [])


def _of_task(before: Scores, after: Scores) -> Iterator[Measure]:
    yield _difference(before, after)
    groups = sorted(set(before.groups))
    for group in groups if len(groups) > 1 else []:
        chosen = np.flatnonzero([one == group for one in before.groups])
        yield _difference(_part(before, group, chosen), _part(after, group, chosen))


def _part(scores: Scores, group: str, chosen: NDArray[np.int64]) -> Scores:
    return replace(
        scores,
        name=f"{scores.name}: {group}",
        role="other",
        values=scores.values[chosen],
        weights=scores.weights[chosen],
        ids=[scores.ids[i] for i in chosen],
    )


def _difference(before: Scores, after: Scores) -> Measure:
    if before.ids != after.ids:
        raise ValueError(f"'{before.name}' was measured on different examples before and after")
    found = statistics.paired_difference(before.values, after.values, before.weights)
    return _measure(before, before.score, after.score, found)


def _further(before: Scores, after: Scores) -> Iterator[Measure]:
    for name, (values, unit, higher) in before.further.items():
        named = replace(
            before, name=f"{before.name}: {name}", metric=name, role="other", unit=unit, higher_is_better=higher
        )
        other = after.further[name].values
        found = statistics.paired_difference(values, other)
        yield _measure(named, float(values.mean()), float(other.mean()), found)


def _calibration(before: Scores, after: Scores) -> Measure:
    columns = [calibration_columns(one.confidences, one.correct) for one in (before, after)]  # type: ignore[arg-type]
    width = columns[0].shape[1]
    error = calibration_from_sums
    found = statistics.bootstrap(np.hstack(columns), lambda sums: error(sums[:, width:]) - error(sums[:, :width]))
    levels = [float(error(each.sum(0, keepdims=True))[0]) for each in columns]
    named = replace(
        before, name=f"{before.name}: calibration error", metric="ece", role="other", higher_is_better=False
    )
    return _measure(named, levels[0], levels[1], found)


def _of_answers(pairs: Sequence[tuple[Scores, Scores]]) -> list[Measure]:
    first = pairs[0][0]
    rows: list[tuple[str, str, Unit, bool]] = [
        ("stop_rate", "stopped", "share", True),
        ("answer_length", "lengths", "tokens", False),
    ]
    found = []
    for name, column, unit, higher in rows:
        b, a = (np.concatenate([getattr(pair[side], column) for pair in pairs]).astype(np.float64) for side in (0, 1))
        named = replace(first, name=name, metric=name, role="other", unit=unit, higher_is_better=higher, values=b)
        found.append(_measure(named, float(b.mean()), float(a.mean()), statistics.paired_difference(b, a)))
    return found


def _measure(scores: Scores, before: float, after: float, found: Interval) -> Measure:
    single = len(scores.values) < 2
    return Measure(
        name=scores.name,
        kind=scores.role,
        metric=scores.metric,
        before=before,
        after=after,
        delta=found.estimate,
        low=None if single else found.low,
        high=None if single else found.high,
        n=len(scores.values),
        higher_is_better=scores.higher_is_better,
        unit=scores.unit,
    )


def verdict(measures: Sequence[Measure]) -> str:
    """One sentence on what changed: the target measures, then retention, each with its interval and finding.

    Shares are in points (hundredths). What the interval does not show is not claimed.
    """
    told = [_told(one) for one in measures if one.kind != "other"]
    if not told:
        return "nothing was measured on the task or on retention: no verdict"
    alarms = [_told(one) for one in measures if one.metric == "stop_rate" and one.finding == "worse"]
    return "this model: " + "; ".join([*told, *alarms])


def _told(one: Measure) -> str:
    scale, digits, unit = SHOWN[one.unit]
    # Adding 0.0 turns the -0.0 of rounding into 0.0.
    shown = lambda value, sign="": f"{round(value * scale, digits) + 0.0:{sign}.{digits}f}"
    interval = "" if one.low is None or one.high is None else f" [{shown(one.low)}, {shown(one.high)}]"
    said: str = one.finding
    if one.kind == "retention":
        said = {"worse": "a loss", "better": "no loss, a gain", "no difference found": "no loss found"}.get(said, said)
    if said == "too few examples":
        said = f"too few examples to judge ({one.n})"
    quantity = one.name.replace("perplexity", "held-out").replace("_", " ")
    quantity += f" {one.metric}" if one.metric in ("loss", "accuracy") else ""
    return f"{quantity} {shown(one.delta, '+')}{interval} {unit}".rstrip() + f": {said}"


class Spread(BaseModel):
    """How far one model's scores and answers move with the batch size alone.

    `scores` holds the score at each of `batches` (positions computed at once); `changed` counts the answers that are
    not the same in all of them, of `n`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    metric: str
    batches: list[int]
    scores: list[float]
    changed: int
    n: int


def spread(subject: Subject, tasks: Sequence[Method], batches: Sequence[int]) -> list[Spread]:
    """The scores of every task at several batch sizes: 0 apart in float32, in bfloat16 the answers' noise."""
    runs = [measure(replace(subject, batch_tokens=size), tasks, automatic=False) for size in batches]
    return [
        Spread(
            name=same[0].name,
            metric=same[0].metric,
            batches=list(batches),
            scores=[one.score for one in same],
            changed=sum(len(set(answers)) > 1 for answers in zip(*(one.answers for one in same), strict=True)),
            n=len(same[0].ids),
        )
        for same in zip(*runs, strict=True)
    ]
