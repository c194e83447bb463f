"""Comparing two models: the measures, what they allow to say, and the sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from evaluate_models import pair, pairs, policy, subject

from tunewright import catalog
from tunewright.evaluate.base import Role, Scores, Subject, Unit
from tunewright.evaluate.measure import Measure, compare, measure, names, omitted, spread, verdict, with_shots


def task(name: str, **options: Any) -> Any:
    return catalog.find("task", name)(**options)


def scores(values: list[float], name: str = "accuracy", **more: Any) -> Scores:
    n = len(values)
    given = {
        "metric": name, "role": "target", "unit": "share", "higher_is_better": True,
        "weights": np.ones(n), "ids": [str(i) for i in range(n)],
    }  # fmt: skip
    return Scores(name=name, values=np.array(values, dtype=np.float64), **{**given, **more})


def made(delta: float, low: float | None, high: float | None, kind: Role = "target", **more: Any) -> Measure:
    unit: Unit = more.pop("unit", "share")
    given = {"name": "classification", "metric": "accuracy", "n": 200, "higher_is_better": True, **more}
    return Measure(kind=kind, before=0.0, after=delta, delta=delta, low=low, high=high, unit=unit, **given)


def test_measure_names_every_task() -> None:
    found = measure(subject(pairs(6)), [task("perplexity"), task("retention"), task("exact_match", max_new_tokens=3)])
    assert [one.name for one in found] == ["perplexity", "exact_match"]
    assert omitted(subject(pairs(6)), [task("retention")])[0].startswith("retention was not measured")


def test_stop_rate_is_measured_even_without_a_generating_task() -> None:
    found = measure(subject(pairs(40)), [task("perplexity")])
    assert [one.name for one in found] == ["perplexity", "stop_rate"] and len(found[1].values) == 32
    assert [one.name for one in measure(subject(pairs(4)), [task("perplexity")], automatic=False)] == ["perplexity"]
    assert measure(subject(pairs(4)), []) == []


def test_names_tell_tasks_apart() -> None:
    tasks = [task("rouge_l"), task("exact_match", data="a/x.jsonl"), task("exact_match", data="y.jsonl")]
    assert names(tasks) == ["rouge_l", "exact_match (x)", "exact_match (y)"]
    assert names([task("rouge_l"), task("rouge_l", limit=2)]) == ["rouge_l", "rouge_l 2"]


def test_compare_real_models() -> None:
    tasks = [task("perplexity"), task("exact_match", max_new_tokens=4)]
    before, after = (measure(subject(pairs(12), policy(seed=seed)), tasks) for seed in (0, 1))
    found = {one.name: one for one in compare(before, after)}
    assert list(found) == ["perplexity", "exact_match", "stop_rate", "answer_length"]
    loss = found["perplexity"]
    assert loss.before == before[0].score and loss.after == after[0].score
    assert loss.delta == pytest.approx(loss.after - loss.before)
    assert loss.low is not None and loss.high is not None and loss.low < loss.delta < loss.high
    assert found["stop_rate"].kind == found["answer_length"].kind == "other"
    plain = json.loads(json.dumps([one.model_dump() for one in found.values()]))
    assert set(plain[0]) >= {
        "name", "kind", "metric", "before", "after", "delta", "low", "high", "n", "higher_is_better", "finding",
    }  # fmt: skip


def test_same_model_shows_no_difference() -> None:
    tasks = [task("perplexity"), task("exact_match", max_new_tokens=4)]
    before = measure(subject(pairs(12)), tasks)
    for one in compare(before, before):
        assert (one.delta, one.low, one.high, one.finding) == (0.0, 0.0, 0.0, "no difference found")


def test_sources_are_measured_apart() -> None:
    groups = {"groups": ["a"] * 15 + ["b"] * 15}
    before, after = scores([0.0] * 30, **groups), scores([1.0] * 15 + [0.0] * 15, **groups)
    found = {one.name: one for one in compare([before], [after])}
    assert found["accuracy: a"].delta == 1.0 and found["accuracy: b"].delta == 0.0
    assert found["accuracy: a"].kind == "other" and found["accuracy: a"].n == 15


def test_calibration_error_is_measured() -> None:
    right = np.ones(50, dtype=np.bool_)
    before = scores([1.0] * 50, confidences=np.full(50, 0.6), correct=right)
    after = scores([1.0] * 50, confidences=np.full(50, 0.9), correct=right)
    [_, error] = compare([before], [after])
    assert (error.name, error.metric, error.higher_is_better) == ("accuracy: calibration error", "ece", False)
    assert (error.before, error.after, error.delta) == pytest.approx((0.4, 0.1, -0.3))
    assert error.finding == "better"


def test_answers_of_all_tasks_are_pooled() -> None:
    kept = {"stopped": np.array([True] * 20), "lengths": np.full(20, 5)}
    cut = {"stopped": np.array([False] * 20), "lengths": np.full(20, 9)}
    before = [scores([0.0] * 20, "x", **kept), scores([0.0] * 20, "y", **kept)]
    after = [scores([0.0] * 20, "x", **kept), scores([0.0] * 20, "y", **cut)]
    stop, length = compare(before, after)[2:]
    assert (stop.before, stop.after, stop.n, stop.finding) == (1.0, 0.5, 40, "worse")
    assert (length.before, length.after, length.finding) == (5.0, 7.0, "higher")


def test_few_shot_base_is_a_row_of_its_own() -> None:
    shot = task("exact_match", shots=2, max_new_tokens=3)
    own = subject(pairs(12), examples=pairs(2, seed=5))
    zero, few = measure(own, [shot]), with_shots(own, [shot, task("perplexity")])
    assert [one.name for one in few] == ["exact_match"]
    row = compare(zero, zero, few)[1]
    assert row.name == "exact_match, base with 2 examples" and row.kind == "other"
    assert row.before == few[0].score and row.after == zero[0].score


def test_different_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="different examples"):
        compare([scores([1.0, 0.0])], [scores([1.0, 0.0], ids=["0", "2"])])


@pytest.mark.parametrize(
    ("one", "finding"),
    [
        (made(0.1, 0.05, 0.2), "better"),
        (made(-0.1, -0.2, -0.05), "worse"),
        (made(-0.1, -0.2, -0.05, higher_is_better=False), "better"),
        (made(0.1, -0.01, 0.2), "no difference found"),
        (made(0.1, 0.0, 0.2), "no difference found"),
        (made(0.1, 0.05, 0.2, n=9), "too few examples"),
        (made(0.1, None, None, n=1), "too few examples"),
        (made(3.0, 1.0, 5.0, unit="tokens"), "higher"),
        (made(-3.0, -5.0, -1.0, unit="tokens"), "lower"),
    ],
)
def test_findings(one: Measure, finding: str) -> None:
    assert one.finding == finding


def test_verdict_wording() -> None:
    accuracy = made(0.123, 0.098, 0.149)
    retention = made(0.004, -0.011, 0.002, "retention", name="retention", metric="loss", unit="nats")
    assert verdict([accuracy, retention]) == (
        "this model: classification accuracy +12.3 [9.8, 14.9] points: better; "
        "retention loss +0.004 [-0.011, 0.002] nats per token: no loss found"
    )
    loss = made(-0.5, -0.6, -0.4, name="perplexity", metric="loss", unit="nats", higher_is_better=False)
    assert verdict([loss]) == "this model: held-out loss -0.500 [-0.600, -0.400] nats per token: better"
    lost = retention.model_copy(update={"low": 0.002, "high": 0.006, "higher_is_better": False})
    assert verdict([lost]).endswith("retention loss +0.004 [0.002, 0.006] nats per token: a loss")
    assert verdict([made(0.001, -0.04, 0.04)]).endswith(
        "classification accuracy +0.1 [-4.0, 4.0] points: no difference found"
    )
    assert verdict([made(-0.0001, -0.04, 0.04)]).endswith(
        "classification accuracy +0.0 [-4.0, 4.0] points: no difference found"
    )
    assert (
        verdict([made(1.0, None, None, n=1)])
        == "this model: classification accuracy +100.0 points: too few examples to judge (1)"
    )
    score = made(0.5, 0.25, 0.75, unit="score", name="custom", metric="words")
    assert verdict([score]) == "this model: custom +0.500 [0.250, 0.750]: better"
    stops = made(-0.5, -0.6, -0.4, "other", name="stop_rate", metric="stop_rate")
    assert verdict([accuracy, stops]).endswith("; stop rate -50.0 [-60.0, -40.0] points: worse")
    assert verdict([accuracy, made(0.5, 0.4, 0.6, "other", name="x")]).count(";") == 0
    assert verdict([]) == "nothing was measured on the task or on retention: no verdict"


def test_spread_over_batch_sizes() -> None:
    given = [pair(f"w{n} " * (n % 9 + 1), f" {n}", n) for n in range(12)]
    own: Subject = subject(given)
    found = spread(own, [task("perplexity"), task("exact_match", max_new_tokens=6)], [1, 4096])
    assert [one.name for one in found] == ["perplexity", "exact_match"]
    for one in found:
        assert one.scores[0] == pytest.approx(one.scores[1], abs=1e-6) and one.changed == 0 and one.n == 12
    short = replace(own, policy=policy())
    short.policy.model.bfloat16()
    [loss] = spread(short, [task("perplexity")], [1, 4096])
    assert loss.scores == pytest.approx([own_score := found[0].scores[0]] * 2, abs=0.2) and own_score > 0
