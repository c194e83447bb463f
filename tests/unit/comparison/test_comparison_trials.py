"""A single trial: equal to a run of the recipe, within its budget, tuned on rows of its own."""

from dataclasses import replace

import numpy as np
import pytest

from tunewright.assembly import read
from tunewright.comparison.jobs import Job, Result, digests, trial_recipe
from tunewright.comparison.kept import Kept
from tunewright.comparison.rows import check_apart, with_tuning_rows
from tunewright.comparison.trial import perform
from tunewright.data import duplicates
from tunewright.errors import BadInput
from tunewright.pipeline import run
from tunewright.recipe import Recipe


@pytest.fixture(scope="module")
def kept():
    return Kept()


def job(small, kind="judge", seed=0, **options):
    recipe = Recipe.of(**small)
    return Job(kind, trial_recipe(recipe, seed), digests(recipe), **options)


def test_a_trial_equals_a_run_and_kept_parts_change_nothing(small, kept, tmp_path):
    alone = perform(job(small, seed=3), Kept())
    perform(job(small, seed=1), kept)
    again = perform(job(small, seed=3), kept)
    plain = run(Recipe.of(**{**small, "train": {**small["train"], "seed": 3}}), tmp_path / "run", quiet=True)
    assert np.array_equal(alone.scores[0].values, again.scores[0].values)
    after = next(one.after for one in plain.evidence.measures if one.name == "perplexity")
    assert alone.scores[0].score == after


def test_changed_rows_or_weights_make_another_trial(small, tmp_path):
    import os
    import shutil

    rows, model = tmp_path / "train.jsonl", tmp_path / "model"
    shutil.copy(small["data"]["train"], rows)
    shutil.copytree(small["model"], model)
    own = {**small, "model": str(model), "data": {**small["data"], "train": str(rows)}}
    first = job(own).key
    assert job(own).key == first
    os.utime(model / "model.safetensors", (1, 1))
    second = job(own).key
    rows.write_text(rows.read_text().replace("red", "rot"))
    assert len({first, second, job(own).key}) == 3


def test_full_tuning_leaves_the_kept_model_as_it_was(small, kept):
    full = {**small, "adapter": "full", "optimizer": {"method": "adamw", "lr": 1e-3}}
    first, second = (perform(job(full, seed=2), kept) for _ in range(2))
    assert np.array_equal(first.scores[0].values, second.scores[0].values)


def test_a_result_comes_back_from_its_file(small, kept, tmp_path):
    import json

    made = perform(job(small), kept)
    (tmp_path / "r.json").write_text(json.dumps(made.plain()))
    back = Result.read(tmp_path / "r.json")
    assert np.array_equal(back.scores[0].values, made.scores[0].values) and back.scores[0].ids == made.scores[0].ids
    (tmp_path / "r.json").write_text(json.dumps(made.plain())[:-9])
    assert Result.read(tmp_path / "r.json") is None


@pytest.mark.parametrize("unit, amount", [("tokens", 700.0), ("flops", None)])
def test_a_budget_is_never_passed_and_nearly_spent(small, kept, unit, amount):
    free = perform(job(small), kept).cost
    amount = amount or 2.6 * free["flops"] / free["steps"]
    spent = perform(job(small, limit=(unit, amount)), kept).cost
    per_step = free[unit] / free["steps"]
    assert amount - 1.3 * per_step < spent[unit] <= amount
    with pytest.raises(BadInput, match="does not pay for one step"):
        perform(job(small, limit=(unit, per_step / 3)), kept)


def test_the_schedule_ends_with_the_budget(small, kept, monkeypatch):
    from tunewright.train.loop import Loop

    rates = []
    step = Loop._set_rate
    monkeypatch.setattr(Loop, "_set_rate", lambda self, n: rates.append(step(self, n)) or rates[-1])
    perform(job(small, limit=("tokens", 1500.0)), kept)
    assert len(rates) > 2 and rates[-1] < 0.5 * max(rates)


def test_the_clock_ends_a_trial_before_it_passes_its_seconds(small, kept):
    long = {**small, "train": {**small["train"], "steps": 400}}
    found = perform(job(long, limit=("seconds", 0.6), steps=400), kept)
    assert found.cut and 0.1 < found.cost["seconds"] <= 0.75 and found.cost["steps"] < 400


def test_a_pace_is_seconds_of_a_step(small, kept):
    found = perform(job(small, "pace", limit=("seconds", 1.0)), kept)
    assert 0 < found.cost["seconds_per_step"] < 5


def test_tuning_rows_neither_train_nor_judge(small):
    recipe = Recipe.of(**small)
    data = read(recipe)
    made = with_tuning_rows(data, recipe, 10)
    judged = {duplicates.content(record) for record in data.eval_records}
    tuned = {duplicates.content(record) for record in made.eval_records}
    assert len(made.eval_records) == 10 == len(made.eval) and not judged & tuned
    lines = set(made.train.columns["line"].tolist())
    assert not lines & set(made.eval.columns["line"].tolist()) and len(lines) == len(data.train) - 10
    assert [record.line for record in made.eval_records] == made.eval.columns["line"].tolist()
    again = with_tuning_rows(data, recipe, 10)
    assert [record.line for record in again.eval_records] == [record.line for record in made.eval_records]


def test_a_tuning_row_that_judges_is_refused(small):
    data = read(Recipe.of(**small))
    with pytest.raises(BadInput, match="overlap: 1 of 2"):
        check_apart([data.eval_records[0], replace(data.eval_records[0], turns=data.eval_records[0].turns[:1])], data)


def test_tuning_trials_measure_the_tuning_rows(small, kept):
    judged, tuned = (perform(job(small, kind, measure="perplexity", rows=10), kept) for kind in ("judge", "tune"))
    assert len(tuned.scores) == 1 and len(tuned.scores[0].ids) == 10
    assert len(judged.scores[0].ids) == 12


def test_the_course_is_measured_along_the_way(small, kept):
    found = perform(job(small, measure="perplexity", every=2), kept)
    assert [point["step"] for point in found.course] == [2, 4]
    assert found.course[-1]["value"] == pytest.approx(found.scores[0].score)
    assert np.array_equal(found.scores[0].values, perform(job(small), kept).scores[0].values)


def test_a_loss_that_is_not_finite_is_a_result(small, kept):
    found = perform(
        job({**small, "optimizer": {"method": "sgd", "lr": 1e30}, "train": {**small["train"], "clip": None}}), kept
    )
    assert found.failed and not found.scores
