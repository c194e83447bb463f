"""Populations: trials that go on from checkpoints, the winner's schedule as it was trained, their cost, and refusals."""

import json

import numpy as np
import pytest
import torch
from test_comparison_beside import Standin, scored

from tunewright.comparison import Arm, Landscape, Tuning, compare, phases
from tunewright.comparison.changing import changing
from tunewright.comparison.cluster import remotely
from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, Result, digests, score_of, trial_recipe
from tunewright.comparison.kept import Kept
from tunewright.comparison.populations import tune
from tunewright.comparison.trial import perform
from tunewright.errors import BadInput
from tunewright.recipe import Recipe
from tunewright.search.space import Choice, Range
from tunewright.train.checkpoint import pack

A, B, C = {"optimizer.lr": 1e-2}, {"optimizer.lr": 3e-2, "train.clip": 0.1}, {"optimizer.lr": 1e-3, "train.clip": 0.5}


@pytest.fixture(scope="module")
def kept():
    return Kept()


@pytest.fixture
def weights(monkeypatch):
    """What every trial of the test ended with: trained tensors and optimizer state, in order."""
    ended, follow = [], phases.follow

    def noted(job, assembly, hooks, scratch, folder=None):
        loop = follow(job, assembly, hooks, scratch, folder)
        tensors = pack(loop)[0]
        ended.append(
            {f"{group}/{n}": v.clone() for group in ("trained", "optimizer") for n, v in tensors[group].items()}
        )
        return loop

    monkeypatch.setattr("tunewright.comparison.trial.follow", noted)
    return ended


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def job(small, *trained, kind="tune", of=3, seed=1 << 30, **options):
    recipe = Recipe.of(**small)
    padded = (*trained, *[None] * (of - len(trained)))
    return Job(kind, trial_recipe(recipe, seed), digests(recipe), measure="perplexity", phases=padded, **options)


def noisy(small):
    """The recipe with what has a state of its own in the loop: dropout, noise guided by gradients, a schedule."""
    adapter = {"method": "lora", "rank": 4, "dropout": 0.1}
    return {**small, "adapter": adapter, "regularize": ["lora_ggpo"], "train": {**small["train"], "steps": 7}}


def allocated(small):
    """Ranks that move between layers, by the adapter's own hook."""
    return {**small, "adapter": {"method": "adalora"}, "train": {**small["train"], "steps": 9}}


def resting(small):
    """Layers at rest by turns, with bases of gradients whose state is in few bits."""
    return {
        **small, "adapter": "full", "optimizer": {"method": "q_galore", "lr": 1e-2, "rank": 2, "gap": 2},
        "layers": {"method": "lisa", "blocks": 1, "every": 2}, "train": {**small["train"], "steps": 9},
    }  # fmt: skip


def split(small):
    """Weights that do not lie in memory row by row, as a decomposition gives them."""
    return {**small, "adapter": "pissa"}


def exchanged(small):
    """Gradients that the adapter gathers over steps of two intervals."""
    return {**small, "adapter": "spiel", "train": {**small["train"], "steps": 9}}


def test_a_job_names_the_one_it_goes_on_from(small):
    whole = job(small, A, B, C)
    assert whole.parent == job(small, A, B) and whole.parent.parent == job(small, A) and job(small, A).parent is None
    assert len({one.key for one in (whole, job(small, A, B), job(small, A), job(small, A, C))}) == 4
    assert Job.of(json.loads(json.dumps(whole.plain()))).key == whole.key
    plain = Job("judge", trial_recipe(Recipe.of(**small), 0), {})
    assert plain.parent is None and Job.of(json.loads(json.dumps(plain.plain()))) == plain


@pytest.mark.parametrize("changed", [lambda one: one, noisy, allocated, resting, split, exchanged])
def test_going_on_from_checkpoints_equals_training_from_the_start(small, kept, tmp_path, weights, changed):
    own = changed(small)
    for trained in ((A,), (A, B), (A, B, C)):
        perform(job(own, *trained), kept, tmp_path)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 2  # after the last interval nothing goes on
    perform(job(own, A, B, C), kept)
    perform(job(own, A, B, C, kind="judge"), kept)
    assert equal(weights[2], weights[3]) and equal(weights[2], weights[4])
    # A checkpoint that is not whole is not taken.
    (job(own, A, B).checkpoint(tmp_path) / "trained.safetensors").write_bytes(b"")
    perform(job(own, A, B, C), kept, tmp_path)
    assert equal(weights[2], weights[5])


def test_where_no_folder_is_shared_a_trial_is_trained_from_the_start_to_the_same(small, kept):
    local = perform(job(small, A, B, C), kept)
    answer = remotely(job(small, A, B, C).plain())
    result = json.loads(answer["result"])
    assert result["scores"][0]["values"] == local.scores[0].values.tolist()


def test_what_changes_takes_effect_from_its_interval_on_and_equal_phases_are_a_plain_trial(small, kept, weights):
    for trained in ((A, A, A), (A, A, B), (A, B, B)):
        perform(job(small, *trained), kept)
    perform(
        Job("tune", trial_recipe(Recipe.of(**small), 1 << 30, A), job(small, A).digests, measure="perplexity"), kept
    )
    assert equal(weights[0], weights[3])
    assert not equal(weights[0], weights[1]) and not equal(weights[1], weights[2])


def test_an_interval_ends_at_its_step(small, kept):
    long = {**small, "train": {**small["train"], "steps": 7}}
    spent = [perform(job(long, *trained), kept).cost["steps"] for trained in ((A,), (A, B), (A, B, C))]
    assert spent == [2, 4, 7]
    with pytest.raises(BadInput, match="fewer steps than intervals"):
        perform(job({**small, "train": {**small["train"], "steps": 2}}, A), kept)


def test_a_clock_that_ends_one_interval_ends_the_rest(small, kept, tmp_path):
    long = {**small, "train": {**small["train"], "steps": 900}}
    limit = {"limit": ("seconds", 0.4), "steps": 900}
    found = [perform(job(long, *trained, **limit), kept, tmp_path) for trained in ((A,), (A, B), (A, B, C))]
    assert found[-1].cut and found[-1].cost["seconds"] <= 0.6
    assert not found[-1].failed and found[-1].scores


def test_a_member_that_diverges_is_a_result_without_a_checkpoint(small, kept, tmp_path):
    wild = {"train.clip": None, "optimizer.lr": 1e30}
    long = {**small, "optimizer": {"method": "sgd", "lr": 1e-2}, "train": {**small["train"], "steps": 12}}
    assert perform(job(long, wild), kept, tmp_path).failed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sampler", ["pbt", "pb2"])
def test_the_winners_schedule_gives_the_winners_weights(small, kept, tmp_path, weights, sampler):
    """A whole search in this process: the schedule that is told, trained by itself under the tuning seed, ends bit for
    bit where the winner's lineage ended, whatever slots and checkpoints it passed through."""
    recipe = Recipe.of(**small)
    ended = {}

    class Here(Crew):
        def _do(self, jobs, alone):
            for one in jobs:
                result = perform(one, kept, self.folder)
                ended[one.key] = weights[-1]
                (self.folder / f"{one.key}.json").write_text(json.dumps(result.plain()))
                self.done += 1

    plan = Tuning({"optimizer.lr": "1e-4..1e-1", "train.clip": "0.1..1.0"}, trials=4, sampler=sampler, intervals=4)
    space = plan.space(recipe)
    ask = lambda values, seed, share: Job(
        "tune", trial_recipe(recipe, seed, values), digests(recipe), share=share, measure="perplexity"
    )
    with Here(tmp_path, 1) as crew:
        found = tune({"arm": (space, ask)}, plan, (1 << 30,), "perplexity", False, crew)["arm"]
        # Of 4 members 1 is replaced after an interval; no trial is done twice, nor again.
        assert crew.done == 16 and found.cost == 4 and len(found.history) == 16
        again = tune({"arm": (space, ask)}, plan, (1 << 30,), "perplexity", False, crew)["arm"]
        assert again == found and crew.done == 16
    assert not list(tmp_path.glob("*.checkpoint*"))
    assert len(found.schedule) == 4 and found.chosen == found.schedule[-1]
    judge = Job(
        "judge", trial_recipe(recipe, 1 << 30), digests(recipe), measure="perplexity", phases=tuple(found.schedule)
    )
    result = perform(judge, kept)
    winner = Job.of({**judge.plain(), "kind": "tune"})
    assert equal(weights[-1], ended[winner.key])
    assert score_of(result, "perplexity").score == found.score == min(
        one["score"] for one in found.history if one["share"] == 1.0
    )  # fmt: skip


def score(job):
    """Better the nearer the values of all intervals are to 0.5."""
    return -sum(abs(one["x"] - 0.5) for one in job.trained) / len(job.trained)


def standin():
    crew = Standin(lambda job: scored(job, score(job)))
    crew.kept = []
    crew.forget = lambda but=(): crew.kept.append({one.key for one in but})
    return crew


def test_a_member_counts_one_run_per_seed_and_all_arms_spend_the_same():
    crew = standin()
    ask = lambda name: lambda values, seed, share: Job("tune", {"arm": name, "seed": seed, **values}, {}, share=share)
    arms = {name: ({"x": Range(0.0, high)}, ask(name)) for name, high in (("a", 1.0), ("b", 0.4))}
    found = tune(arms, Tuning(trials=8, sampler="pbt", seeds=3, intervals=5), (7, 8, 9), "q", True, crew)
    assert found["a"].cost == found["b"].cost == pytest.approx(8 * 3)
    assert len(crew.jobs) == 2 * 8 * 3 * 5
    for one in found.values():
        full = [entry for entry in one.history if entry["share"] == 1.0]
        assert one.score == max(entry["score"] for entry in full) == one.history[-1]["incumbent"] and len(full) == 8
        assert all(entry["incumbent"] is None for entry in one.history if entry["share"] < 1.0)
        assert len(one.schedule) == len(one.lineage) == 5 and one.schedule[-1] == one.chosen
        assert one.score == pytest.approx(score(Job("tune", {}, {}, phases=one.schedule)))
        # Along the lineage every state was that of the member it is said to be.
        for count, place in enumerate(one.lineage, 1):
            entry = one.history[(count - 1) * 8 + place]
            assert entry["schedule"] == [dict(each) for each in one.schedule[:count]]
    # What goes on is kept until the next interval is done, and in the end nothing.
    assert [len(each) for each in crew.kept] == [2 * 8 * 3] * 5 + [0]
    assert all({one.parent.key for one in crew.jobs if one.parent and len(one.trained) == k + 2} <= crew.kept[k] for k in range(4))  # fmt: skip


def test_the_seeds_of_a_member_are_scored_and_copied_together():
    """One seed says that small is better, the other, of twice the weight, that large is: the mean decides."""
    worth = lambda job: job.trained[-1]["x"] * (2 if job.recipe["seed"] == 8 else -1)
    crew = Standin(lambda job: scored(job, worth(job)))
    crew.forget = lambda but=(): None
    ask = lambda values, seed, share: Job("tune", {"seed": seed, **values}, {})
    found = tune(
        {"a": ({"x": Range(0.0, 1.0)}, ask)}, Tuning(trials=4, sampler="pbt", seeds=2), (7, 8), "q", True, crew
    )
    first = [entry for entry in found["a"].history if entry["share"] == 0.25]
    assert [one["score"] for one in first] == pytest.approx([one["values"]["x"] / 2 for one in first])
    by_seed = [[one.phases for one in crew.jobs if one.recipe["seed"] == seed] for seed in (7, 8)]
    assert by_seed[0] == by_seed[1]


def test_a_seed_that_fails_makes_a_member_fail_and_no_member_left_is_told():
    fails = lambda job: len(job.trained) == 2 or (job.recipe["seed"] == 8 and job.trained[-1]["x"] > 0.5)
    crew = Standin(lambda job: Result(job.key, failed="nan") if fails(job) else scored(job, 1.0))
    crew.forget = lambda but=(): None
    ask = lambda values, seed, share: Job("tune", {"seed": seed, **values}, {})
    with pytest.raises(BadInput, match="no member of 'a'"):
        tune({"a": ({"x": Range(0.0, 1.0)}, ask)}, Tuning(trials=4, sampler="pbt", seeds=2), (7, 8), "q", True, crew)
    assert max(len(one.trained) for one in crew.jobs) == 2
    second = {one.phases[0]["x"] for one in crew.jobs if len(one.trained) == 2}
    assert second and max(second) <= 0.5


def test_what_cannot_change_in_a_run_is_refused_by_name(small):
    recipe = Recipe.of(**{**small, "regularize": ["l2_to_base"], "objective": "masked_thought"})
    space = {"optimizer.lr": (1e-3, 1e-1), "train.clip": (0.1, 1.0), "schedule.floor": (0.0, 0.5),
             "objective.p_max": (0.1, 0.6), "regularize.0.strength": (1e-4, 1e-2)}  # fmt: skip
    assert set(Tuning(space, sampler="pbt").space(recipe)) == set(space) <= set(changing(recipe))
    for key, value in {"adapter.rank": (2, 8), "train.tokens_per_step": (64, 512), "train.precision": ["bf16", "fp32"],
                       "optimizer.method": ["adamw", "lion"], "adapter.method": ["lora", "dora"]}.items():  # fmt: skip
        with pytest.raises(BadInput, match="cannot change while a model trains") as error:
            Tuning({key: value}, sampler="pb2").space(recipe)
        assert key in str(error.value) and "optimizer.lr" in str(error.value) and "train.clip" in str(error.value)
        Tuning({key: value}).space(recipe)
    with pytest.raises(BadInput):
        Tuning({"regularize.1.strength": (1e-4, 1e-2)}, sampler="pbt").space(recipe)
    with pytest.raises(BadInput, match="beta1"):
        Tuning({"optimizer.beta1": (0.5, 1.5)}, sampler="pbt").space(recipe)


def test_the_form_of_an_optimizers_state_and_the_columns_of_rows_cannot_change(small):
    mezo = Recipe.of(**{**small, "optimizer": "mezo"})
    assert "optimizer.eps" in changing(mezo) and "optimizer.seeds" not in changing(mezo)
    galore = Recipe.of(**{**small, "adapter": "full", "optimizer": "q_galore"})
    assert not {"optimizer.rank", "optimizer.proj_bits", "optimizer.eight_bit_from"} & set(changing(galore))


def test_what_a_population_cannot_do_is_refused(small, tmp_path):
    for wrong in ({"halving": 3}, {"intervals": 1}, {"trials": 1}):
        with pytest.raises(BadInput):
            Tuning(sampler="pbt", **wrong)
    arms = [Arm("a", small), Arm("b", {**small, "adapter": {"method": "lora", "rank": 1}})]
    with pytest.raises(BadInput, match=r"adapter\.rank"):
        compare(arms, tmp_path / "out", tune=Tuning({"adapter.rank": "1..8"}, sampler="pbt"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_whole_comparison_follows_the_schedules_it_found(small, tmp_path, monkeypatch):
    """Tuned by a population with a landscape; broken off in the second interval, it goes on and does nothing twice."""
    arms = [Arm("four", small), Arm("one", {**small, "adapter": {"method": "lora", "rank": 1}})]
    options = {"tune": Tuning(trials=3, sampler="pbt", intervals=2, rows=10), "jobs": 1, "seeds": 2,
               "landscape": Landscape({"optimizer.lr": "1e-3..1e-1", "adapter.rank": "2,4"}, points=2, seeds=2)}  # fmt: skip
    out, results, asked = tmp_path / "out", Crew.results, {}

    def broken(self, jobs, alone=False):
        if any(len(one.trained) == 2 and one.kind == "tune" for one in jobs):
            results(self, jobs[:2], alone)
            raise KeyboardInterrupt
        return results(self, jobs, alone)

    with monkeypatch.context() as patch:
        patch.setattr(Crew, "results", broken)
        with pytest.raises(KeyboardInterrupt):
            compare(arms, out, **options)
    left = {path.name: path.stat().st_mtime_ns for path in (out / "trials").glob("*.json")}
    assert len(left) == 1 + 6 + 2 and len(list((out / "trials").glob("*.checkpoint"))) == 6
    with monkeypatch.context() as patch:
        patch.setattr(
            Crew,
            "results",
            lambda self, jobs, alone=False: asked.update({one.key: one for one in jobs}) or results(self, jobs, alone),
        )
        found = compare(arms, out, **options)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "trials").glob("*.json")}
    assert left.items() <= after.items() and {f"{key}.json" for key in asked} == after.keys()
    assert found.done == len(after) - len(left)
    ways = [(one.kind, len(one.trained), len(one.phases)) for one in asked.values()]
    assert (ways.count(("base", 1, 0)), ways.count(("tune", 1, 2)), ways.count(("judge", 2, 2))) == (1, 6, 4)
    # The last interval of 6 members, and 2 + 2 values per arm with 2 seeds. The rank that an arm has is trained already,
    # and the same where the arms' schedules are equal.
    assert 6 + 16 - 5 <= ways.count(("tune", 2, 2)) <= 6 + 16 - 1
    assert not list((out / "trials").glob("*.checkpoint*"))
    plain = json.loads((out / "comparison.json").read_text())
    told = plain["tuning"]
    assert (told["tuner"], told["intervals"], told["population"]) == ("pbt", 2, 3)
    assert told["budget_runs"] == {"four": 3, "one": 3} and told["runs"] == {"four": 5, "one": 5}
    for row in plain["arms"]:
        tuned = row["tuned"]
        assert told["incumbent"][row["name"]] == tuned["schedule"] and len(tuned["schedule"]) == 2
        assert told["lineage"][row["name"]] == tuned["lineage"] and tuned["chosen"] == tuned["schedule"][-1]
        iqm = row["iqm"]
        assert iqm["estimate"] == pytest.approx(np.mean(row["scores"]))  # of two seeds nothing is left out
        assert (iqm["low"], iqm["high"]) == pytest.approx((min(row["scores"]), max(row["scores"])))
        ranks = row["landscape"]["adapter.rank"]
        assert [one["value"] for one in ranks] == [2, 4] and ranks[0]["mean"] != ranks[1]["mean"]
    page = (out / "comparison.html").read_text()
    for words in (
        "Tuner pbt",
        "at 2 equal intervals",
        "population of 3",
        "Members",
        "Interquartile mean",
        "1. optimizer.lr",
    ):
        assert words in page
    recipe = found.arm("one").recipe
    assert recipe["optimizer"]["lr"] == plain["arms"][1]["tuned"]["schedule"][0]["optimizer.lr"]
    jobs = {path.stem for path in (out / "trials").glob("*.json")}
    side = Recipe.of(**arms[1].recipe)
    followed = tuple(plain["arms"][1]["tuned"]["schedule"])
    expected = [Job("judge", trial_recipe(side, seed), digests(side), phases=followed).key for seed in range(2)]
    assert set(expected) <= jobs
    assert compare(arms, out, **options).done == 0


def test_the_usual_protocol_follows_every_members_schedule():
    from tunewright.comparison.beside import conventional, full_settings

    crew = standin()
    ask = lambda values, seed, share: Job("tune", {"seed": seed, **values}, {})
    found = tune({"a": ({"x": Choice((0.1, 0.5, 0.9))}, ask)}, Tuning(trials=4, sampler="pbt"), (7,), "q", True, crew)
    full = full_settings(found["a"])
    assert all(len(one["schedule"]) == 4 for one in full) and 1 <= len(full) <= 4
    judge = lambda name, seed, values, schedule: Job("judge", {"seed": seed}, {}, phases=tuple(schedule))
    usual = conventional(found, range(2), judge, "q", True, crew)["a"]
    assert usual.score == pytest.approx(found["a"].score) and usual.settings == len(full)
