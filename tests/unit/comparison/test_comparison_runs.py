"""Whole comparisons on a tiny model: what is run, what is not run again, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from comparison_rows import rows
from ruamel.yaml import YAML

from tunewright.comparison import Arm, Budget, Target, Tuning, compare, request, vary
from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, digests, trial_recipe
from tunewright.comparison.tuning import Search, Tried, tuning_seeds
from tunewright.errors import BadInput, Fault
from tunewright.recipe import Recipe
from tunewright.search.proposals import Proposals
from tunewright.search.space import Range


def with_rank(small, rank):
    return {**small, "adapter": {"method": "lora", "rank": rank}}


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """A finished comparison of two ranks, tuned, with a target, in a budget of tokens."""
    folder = tmp_path_factory.mktemp("done") / "out"
    options = {
        "budget": Budget("tokens", 900), "tune": Tuning(trials=2, rows=10), "target": Target(4.6, 1), "jobs": 2,
    }  # fmt: skip
    arms = [Arm("four", small), Arm("one", with_rank(small, 1))]
    return arms, folder, options, compare(arms, folder, seeds=3, **options)


def test_a_comparison_leaves_what_it_promises(done):
    _, folder, _, found = done
    assert {item.name for item in folder.iterdir()} == {"trials", "comparison.json", "comparison.html"}
    plain = json.loads((folder / "comparison.json").read_text())
    assert plain["verdict"] == found.verdict and [arm["name"] for arm in plain["arms"]] == ["four", "one"]
    assert plain["budget"] == {"unit": "tokens", "amount": 900}
    assert found.arm("one").values["perplexity"].shape == (3, 12)
    assert found.done == 1 + 2 * 2 + 2 * 3  # base, tuning, judging
    assert len({tuple(row) for row in found.arm("one").values["perplexity"]}) == 3


def test_what_was_spent_is_told_and_within_the_budget(done):
    found = done[3]
    for arm in found.arms:
        assert (arm.costs["tokens"] <= 900).all() and (arm.costs["peak_memory_bytes"] > 0).all()
    four, one = (found.arm(name).cost() for name in ("four", "one"))
    assert four["trained_parameters"] == 4 * one["trained_parameters"] and four["flops"] > one["flops"]


def test_what_was_tuned_is_told(done):
    found = done[3]
    plain = found.plain()["arms"][1]["tuned"]
    assert len(plain["history"]) == 2 and plain["cost"] == 2
    best = min(plain["history"], key=lambda one: one["score"])
    assert plain["chosen"] == best["values"] and plain["history"][-1]["incumbent"] == best["score"]
    assert found.arm("one").recipe["optimizer"]["lr"] == plain["chosen"]["optimizer.lr"]
    assert plain["gap"] == pytest.approx(found.arm("one").scores["perplexity"].mean() - plain["score"])


def test_the_time_to_a_target_is_told(done):
    times = done[3].plain()["arms"][0]["times"]
    assert times["reached"] == sum(one is not None for one in times["steps"]["each"])


def test_calling_again_does_nothing_twice_and_more_seeds_only_what_is_new(done):
    arms, folder, options, first = done
    again = compare(arms, folder, seeds=3, **options)
    assert again.done == 0 and again.verdict == first.verdict
    lost = next(iter((folder / "trials").glob("*.json")))
    lost.unlink()
    assert compare(arms, folder, seeds=4, **{**options, "jobs": 1}).done == 1 + 2


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on_where_it_was(small, tmp_path):
    slow = {**small, "train": {**small["train"], "steps": 30}}
    for name, rank in (("a", 4), ("b", 1)):
        with (tmp_path / f"{name}.yaml").open("w") as stream:
            YAML().dump(with_rank(slow, rank), stream)
    command = [sys.executable, "-m", "tunewright.cli", "compare", "a.yaml", "b.yaml", "-o", "out", "--seeds", "2", "--json",
               "--jobs", "1"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(command, **options)
    trials, ends = tmp_path / "out" / "trials", time.monotonic() + 120
    while len(list(trials.glob("*.json"))) < 2 and time.monotonic() < ends:
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 130, told
    before = {path.name: path.stat().st_mtime_ns for path in trials.glob("*.json")}
    assert 2 <= len(before) < 5
    ended = subprocess.run(command, timeout=300, **options)
    assert ended.returncode == 0, ended.stderr
    after = {path.name: path.stat().st_mtime_ns for path in trials.glob("*.json")}
    assert len(after) == 5 and before.items() <= after.items()
    assert "too few seeds to judge (2)" in json.loads(ended.stdout)["verdict"]


def test_a_worker_that_is_killed_is_told_and_replaced(small, tmp_path):
    recipe = Recipe.of(**small)
    jobs = [Job("count", trial_recipe(recipe, seed), digests(recipe)) for seed in range(2)]
    with Crew(tmp_path / "trials", 1) as crew:
        crew.results(jobs[:1])
        crew._workers[0]._process.kill()
        crew._workers[0]._process.wait()
        with pytest.raises(Fault, match="out of memory, or was killed"):
            crew.results(jobs[1:])
        assert crew.results(jobs[1:])[0].cost["steps"] == 4


def test_arms_of_unequal_length_are_refused(small, tmp_path):
    longer = {**small, "train": {**small["train"], "steps": 9}}
    with pytest.raises(BadInput, match=r"unequal budgets: 'a' .* 'b' .*--tokens"):
        compare([Arm("a", small), Arm("b", longer)], tmp_path / "out", seeds=2, jobs=1)


def test_arms_that_cannot_be_compared_are_refused(small, tmp_path):
    other = {**small, "data": {**small["data"], "eval": rows(tmp_path / "other.jsonl", 5, 90)}}
    watched = {"steps": 4, "evaluate_every": 1, "early_stop": {"measure": "perplexity"}}
    faulty = [
        ([Arm("a", small)], {}, "needs two arms"),
        ([Arm("a", small), Arm("b", small)], {"seeds": 1}, "luck"),
        ([Arm("a", small), Arm("a", small)], {}, "two arms are called 'a'"),
        ([Arm("a", small), Arm("b", other)], {}, "judged otherwise"),
        ([Arm("a", small), Arm("b", {**small, "evaluate": ["retention"]})], {}, "judged otherwise"),
        ([Arm("a", small), Arm("b", {**small, "train": watched})], {}, "rows that judge"),
        ([Arm("a", small), Arm("b", with_rank(small, 1))], {"measure": "perplexty"}, "Did you mean 'perplexity'"),
    ]
    for arms, options, message in faulty:
        with pytest.raises(BadInput, match=message):
            compare(arms, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_left_alone(small, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="no comparison wrote"):
        compare([Arm("a", small), Arm("b", with_rank(small, 1))], tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").exists()


def test_tuning_on_the_judging_rows_is_refused(small, tmp_path):
    tune = Tuning(trials=2, on=(f"data.eval={small['data']['eval']}",))
    with pytest.raises(BadInput, match="tuning and judging rows overlap"):
        compare([Arm("a", small), Arm("b", with_rank(small, 1))], tmp_path / "out", seeds=2, tune=tune, jobs=1)


def test_what_cannot_be_tuned_is_refused(small):
    recipe = Recipe.of(**small)
    for parameters, message in (
        ({"optimizer.lrr": "1e-4..1e-2"}, "Did you mean 'lr'"),
        ({"train.steps": "1..9"}, "fixed by the comparison"),
        ({"data.limit": "1..9"}, "fixed by the comparison"),
    ):
        with pytest.raises(BadInput, match=message):
            Tuning(parameters).space(recipe)
    space = Tuning().space(recipe)["optimizer.lr"]
    assert (space.low, space.high) == pytest.approx((1e-3, 1e-1))
    for wrong in ({"trials": 1}, {"sampler": "best"}, {"halving": 1}, {"halving": 3, "sampler": "grid"},
                  {"sampler": "dehb", "trials": 2}):  # fmt: skip
        with pytest.raises(BadInput):
            Tuning(**wrong)


def test_what_varies_becomes_arms(small):
    arms = vary(small, ["adapter.rank=2,4", "optimizer.method=adamw,sgd"])
    assert [arm.name for arm in arms] == [
        "rank=2, method=adamw", "rank=2, method=sgd", "rank=4, method=adamw", "rank=4, method=sgd",
    ]  # fmt: skip
    assert arms[3].resolved().optimizer.name == "sgd" and arms[3].resolved().adapter.rank == 4
    for wrong, message in (
        ("adapter.rnk=2,4", "rank"),
        ("adapter.rank=2", "KEY=A,B"),
        ("adapter.method=lora,lorra", "lora"),
    ):
        with pytest.raises(BadInput, match=message):
            vary(small, [wrong])


def test_methods_that_share_no_options_are_varied(small, tmp_path):
    """What the recipe does not write out is each method's own default."""
    plain = {key: value for key, value in small.items() if key not in ("adapter", "optimizer")}
    with (tmp_path / "plain.yaml").open("w") as stream:
        YAML().dump(plain, stream)
    varied = ["adapter.method=lora,ssf", "optimizer.method=adamw,mezo"]
    arms = request.arms([str(tmp_path / "plain.yaml")], varied, ["train.seed=3"])
    made = [arm.resolved() for arm in arms]
    assert [one.adapter.name for one in made] == ["lora", "lora", "ssf", "ssf"]
    own = [Recipe.of(**plain, optimizer=name).optimizer.lr for name in ("adamw", "mezo")]
    assert own[0] != own[1] and [one.optimizer.lr for one in made] == own * 2
    assert {one.train.seed for one in made} == {3}


def test_what_the_command_line_says_is_understood(small, tmp_path):
    with (tmp_path / "a.yaml").open("w") as stream:
        YAML().dump(small, stream)
    path = str(tmp_path / "a.yaml")
    named = request.arms([path, f"b={path}"], (), ["adapter.rank=2"])
    assert [arm.name for arm in named] == ["a", "b"] and named[1].resolved().adapter.rank == 2
    assert request.budget(None, 3.0, None) == Budget("seconds", 3.0) and request.budget(None, None, None) is None
    for wrong in (lambda: request.budget(1.0, 3.0, None), lambda: request.budget(0.0, None, None),
                  lambda: request.arms([path, path], ["a=1,2"], ()), lambda: request.tuning(["lr"], (), 8, "tpe", 1, None),
                  lambda: request.target(None, None, 3), lambda: request.target(1.0, None, 0),
                  lambda: request.landscape(["adapter.rank"], 5, 3), lambda: request.landscape(["adapter.rank=1..4"], 5, 1)):  # fmt: skip
        with pytest.raises(BadInput):
            wrong()
    assert request.tuning(["optimizer.lr=1e-4..1e-2"], (), 8, "tpe", 1, None).parameters == {
        "optimizer.lr": "1e-4..1e-2"
    }


def test_a_seed_never_tunes_and_judges():
    assert not set(tuning_seeds(50, range(1000))) & set(range(1000))
    with pytest.raises(ValueError, match="both"):
        tuning_seeds(1, [1 << 30])


@pytest.mark.parametrize("seeds, gap", [(1, 1.77), (4, 0.88)])
def test_the_best_of_noise_flatters_as_much_as_it_must(seeds, gap):
    """arXiv 2306.01324 as the card has it: of 16 settings that are all alike, the winner's tuning score exceeds its
    true value by the mean of the largest of 16 normals, 1.77, over the root of the tuning seeds."""
    drawn = np.random.default_rng(0).normal(size=(5000, 16, seeds)).mean(2)
    found = []
    for each in drawn:
        search = Search("arm", {}, None, Proposals({"a": Range(0.0, 1.0)}, 16), True)
        search.note([Tried({"setting": k}, score) for k, score in enumerate(each.tolist())], 1.0, seeds)
        found.append(search.found().score)
    assert np.mean(found) == pytest.approx(gap, abs=0.05)


def test_without_ray_a_cluster_is_refused_with_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arms = [Arm("a", small), Arm("b", with_rank(small, 1))]
    with pytest.raises(BadInput, match=r"pip install 'tunewright\[ray\]'"):
        compare(arms, tmp_path / "out", seeds=2, ray="auto")


def test_jobs_are_done_on_a_cluster(small, tmp_path, monkeypatch):
    """A stand-in for Ray that calls the job function where it is."""
    addresses = []
    standin = SimpleNamespace(
        init=lambda address, **options: addresses.append(address),
        remote=lambda function: SimpleNamespace(remote=function),
        wait=lambda waiting, num_returns: (waiting[-1:], waiting[:-1]),
        get=lambda answer: answer,
    )
    monkeypatch.setitem(sys.modules, "ray", standin)
    recipe = Recipe.of(**small)
    jobs = [Job("judge", trial_recipe(recipe, seed), digests(recipe)) for seed in range(2)]
    with Crew(tmp_path / "trials", ray="ray://head:10001") as crew:
        found = crew.results(jobs)
        assert crew.done == 2 and [one.key for one in found] == [job.key for job in jobs]
        assert crew.results(jobs)[0].scores and crew.done == 2
    assert addresses == ["ray://head:10001"]
