"""Learning one task after another: what was kept, and what each task did for the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import theilslopes

Floats = NDArray[np.float64]


class Kept(NamedTuple):
    """Summary of an accuracy matrix: mean after the last task, mean over the sequence, and forgetting."""

    final: float
    average: float
    forgetting: float


def kept(matrix: ArrayLike) -> Kept:
    """The summary of a_(t,j) [tasks, tasks], the score on task j after learning task t (arXiv 2403.09066).

    A_t = mean over j <= t of a_(t,j); final = A_T; average = mean over t of A_t; forgetting = mean over j < T of
    (max over t = j..T-1 of a_(t,j)) - a_(T,j), below 0 where a task got better later, and 0 for a single task.
    """
    a = np.asarray(matrix, dtype=np.float64)
    tasks = len(a)
    means = [float(a[t, : t + 1].mean()) for t in range(tasks)]
    lost = [float(a[j : tasks - 1, j].max() - a[-1, j]) for j in range(tasks - 1)]
    return Kept(means[-1], float(np.mean(means)), float(np.mean(lost)) if lost else 0.0)


class Block(NamedTuple):
    """A stretch of a lifelong run: training on a task, or a test of it; `scores` in the order of experience."""

    kind: str
    task: str
    scores: Sequence[float]


class Lifelong(NamedTuple):
    """Means over tasks (None where nothing defines them): the metrics of arXiv 2301.07799.

    `maintenance` below 0 is forgetting; `forward` and `backward` are ratios of normalised scores, above 1 where
    learning one task helped another; `relative` and `efficiency` compare with experts that learnt one task alone, above
    1 where the sequence helped; `recovery` is minus the slope of the times to get back a lost score.
    """

    maintenance: float | None
    forward: float | None
    backward: float | None
    relative: float | None
    efficiency: float | None
    recovery: float | None


def lifelong(blocks: Sequence[Block], experts: Sequence[Block] = ()) -> Lifelong:
    """The metrics of a run made of training and test blocks; `experts` are training blocks of single-task runs.

    Training blocks are smoothed (moving average over min(int(0.2 n), 100), none below 3), each task is clamped to its
    10th to 90th percentile and mapped to [1, 101]. maintenance: test - the most recent test that followed training on
    the task. Transfer A -> B: score of B's tests after a block of A over that before it, forward while B was never
    trained, backward after.
    """
    return _lifelong(*normalised(blocks, experts))


def normalised(blocks: Sequence[Block], experts: Sequence[Block] = ()) -> tuple[list[Block], list[Block]]:
    """Smoothed blocks on each task's own scale from 1 to 101; a constant task is 1."""
    every = [one._replace(scores=smoothed(one.scores) if one.kind == "train" else one.scores) for one in
             (*blocks, *experts)]  # fmt: skip
    scales: dict[str, tuple[float, float]] = {}
    for task in {one.task for one in every}:
        values = np.concatenate([np.asarray(one.scores, dtype=np.float64) for one in every if one.task == task])
        low, high = np.percentile(values, [10, 90])
        scales[task] = float(low), float(high)
    made = []
    for one in every:
        low, high = scales[one.task]
        clamped = np.clip(np.asarray(one.scores, dtype=np.float64), low, high)
        span = high - low
        made.append(one._replace(scores=((clamped - low) / span * 100 + 1 if span else np.ones(len(clamped))).tolist()))
    return made[: len(blocks)], made[len(blocks) :]


def smoothed(scores: Sequence[float], window: int | None = None) -> list[float]:
    """The moving average over rows i - L // 2 to i - L // 2 + L - 1, ends reflected without the end point.

    L = min(int(0.2 n), 100) unless given; below 3 the scores stay.
    """
    values = np.asarray(scores, dtype=np.float64)
    length = min(int(0.2 * len(values)), 100) if window is None else window
    if length < 3:
        return values.tolist()
    before = length // 2
    padded = np.pad(values, (before, length - 1 - before), mode="reflect")
    return np.convolve(padded, np.full(length, 1 / length), mode="valid").tolist()


def maintenance(blocks: Sequence[Block], task: str) -> float | None:
    """Mean over later tests of test - reference, the reference being the last test directly after training on the task."""
    reference: float | None = None
    trained = False
    found = []
    for one in blocks:
        if one.task == task and one.kind == "train":
            trained = True
        elif one.task == task:
            score = float(np.mean(one.scores))
            if trained:
                reference, trained = score, False
            elif reference is not None:
                found.append(score - reference)
    return float(np.mean(found)) if found else None


def transfers(blocks: Sequence[Block], forward: bool) -> list[float]:
    """Ratios b2 / b1 of B's test after and before a training block of another task A, for every pair seen.

    Forward while B was never trained before, backward after B's first training; the first ratio of a pair counts.
    """
    found: dict[tuple[str, str], float] = {}
    for place, one in enumerate(blocks):
        if one.kind != "train":
            continue
        for task in {other.task for other in blocks} - {one.task}:
            ever = any(b.kind == "train" and b.task == task for b in blocks[:place])
            before = _last_test(blocks[:place], task)
            after = _first_test(blocks[place + 1 :], task)
            if ever != forward and before is not None and after is not None:
                found.setdefault((one.task, task), after / before)
    return list(found.values())


def recovery_times(blocks: Sequence[Block], task: str) -> list[int]:
    """Experiences in each later training block of the task until the score its last one ended with; length + 1 if never.

    What a block ends with is the mean of its last tenth.
    """
    found: list[int] = []
    terminal: float | None = None
    for one in blocks:
        if one.task != task or one.kind != "train" or not len(one.scores):
            continue
        if terminal is not None:
            reached = np.flatnonzero(np.asarray(one.scores) >= terminal)
            found.append(int(reached[0]) if len(reached) else len(one.scores) + 1)
        terminal = float(np.mean(one.scores[-max(1, round(0.1 * len(one.scores))) :]))
    return found


def _lifelong(blocks: Sequence[Block], experts: Sequence[Block]) -> Lifelong:
    tasks = sorted({one.task for one in blocks})
    ratios, efficiencies, recoveries = [], [], []
    for task in tasks:
        own = _training(blocks, task)
        times = recovery_times(blocks, task)
        if len(times) > 1:
            recoveries.append(-float(theilslopes(times).slope))
        for expert in (np.asarray(one.scores, dtype=np.float64) for one in experts if one.task == task):
            n = min(len(own), len(expert))
            if n:
                ratios.append(float(own[:n].sum() / expert[:n].sum()))
            if (found := efficiency(own, expert)) is not None:
                efficiencies.append(found)
    return Lifelong(
        _mean([maintenance(blocks, task) for task in tasks]),
        _mean(transfers(blocks, forward=True)),
        _mean(transfers(blocks, forward=False)),
        _mean(ratios),
        _mean(efficiencies),
        _mean(recoveries),
    )


def efficiency(own: Floats, expert: Floats) -> float | None:
    """(saturation / the expert's) x (the expert's experiences to saturation / own), each curve smoothed once more.

    Saturation is the maximum, its experience the first index from 0 that reaches it. 0 where the saturation is below a
    fifth of the expert's or the curve falls; None where it is reached at once.
    """
    curves = [np.asarray(smoothed(each.tolist())) for each in (own, expert)]
    if any(len(each) < 2 for each in curves):
        return None
    (top, first), (expert_top, expert_first) = ((float(c.max()), int(c.argmax())) for c in curves)
    if top < 0.2 * expert_top or np.polyfit(np.arange(len(curves[0])), curves[0], 1)[0] < 0:
        return 0.0
    return top / expert_top * expert_first / first if first and expert_first else None


def _training(blocks: Sequence[Block], task: str) -> Floats:
    found = [np.asarray(one.scores, dtype=np.float64) for one in blocks if one.task == task and one.kind == "train"]
    return np.concatenate(found) if found else np.zeros(0)


def _last_test(blocks: Sequence[Block], task: str) -> float | None:
    found = [float(np.mean(one.scores)) for one in blocks if one.kind == "test" and one.task == task]
    return found[-1] if found else None


def _first_test(blocks: Sequence[Block], task: str) -> float | None:
    """The first test of the task before any further training."""
    for one in blocks:
        if one.kind == "train":
            return None
        if one.task == task:
            return float(np.mean(one.scores))
    return None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
