"""What is trained beside tuning and judging: landscapes, studies, the usual protocol; and what a page says of them."""

import json

import numpy as np
import pytest
from comparison_rows import rows

from tunewright.comparison import Arm, Landscape, Target, Tuning, compare
from tunewright.comparison.beside import FIRST_REPEAT, conventional, set_by, studies
from tunewright.comparison.crew import Crew
from tunewright.comparison.jobs import Job, Result
from tunewright.comparison.outcome import Tuned
from tunewright.comparison.tuning import tune
from tunewright.errors import BadInput, Fault
from tunewright.evaluate.base import Scores
from tunewright.search.space import Choice, Range


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """Tuned on another scenario, with studies and a landscape."""
    folder = tmp_path_factory.mktemp("beside")
    other = [f"data.train={rows(folder / 'train.jsonl', 40, 200)}", f"data.eval={rows(folder / 'eval.jsonl', 8, 300)}"]
    options = {
        "tune": Tuning(trials=2, sampler="random", on=tuple(other)), "target": Target(4.7, 1, studies=1),
        "landscape": Landscape({"optimizer.lr": "1e-3..1e-1", "adapter.rank": "2,4"}, points=2, seeds=2), "jobs": 1,
    }  # fmt: skip
    arms = [Arm("four", small), Arm("one", {**small, "adapter": {"method": "lora", "rank": 1}})]
    jobs: list[Job] = []
    with pytest.MonkeyPatch.context() as patch:
        results = Crew.results
        patch.setattr(
            Crew, "results", lambda self, asked, alone=False: jobs.extend(asked) or results(self, asked, alone)
        )
        return folder, compare(arms, folder / "out", seeds=2, **options), jobs


def test_a_landscape_varies_each_key_alone(done):
    found = done[1]
    swept = found.plain()["arms"][1]["landscape"]
    assert [one["value"] for one in swept["optimizer.lr"]] == pytest.approx([1e-3, 1e-1])
    assert [one["value"] for one in swept["adapter.rank"]] == [2, 4]
    for one in swept["optimizer.lr"]:
        assert len(one["scores"]) == 2 and one["low"] <= one["mean"] <= one["high"]
        assert one["mean"] == pytest.approx(np.mean(one["scores"]))
    assert len({one["mean"] for one in swept["optimizer.lr"]}) == 2


def test_what_tunes_and_what_varies_never_judges(done):
    """A spy on all jobs: those that choose see the other scenario's rows and seeds alone, those that judge none of them."""
    folder, found, jobs = done
    assert found.plain()["tuning"]["tuned_on"] == [
        f"data.train={folder / 'train.jsonl'}", f"data.eval={folder / 'eval.jsonl'}"
    ]  # fmt: skip
    kinds = {kind: [job for job in jobs if job.kind == kind] for kind in ("tune", "judge")}
    # Per arm 2 settings and 2 seeds of 2 + 2 values; 2 seeds, these for 2 settings (usual protocol), a study of 2.
    assert (len(kinds["tune"]), len(kinds["judge"])) == (2 * (2 + 8), 2 * (2 + 4 + 2))
    # What the usual protocol trains is judged already where it would choose the same, and is not trained twice.
    assert found.done == len({job.key for job in jobs}) <= 1 + 20 + 2 * (4 + 2)
    read = {
        kind: {file for job in each for file in job.digests if file.endswith(".jsonl")} for kind, each in kinds.items()
    }
    assert (
        read["tune"] == {str(folder / "train.jsonl"), str(folder / "eval.jsonl")} and not read["tune"] & read["judge"]
    )
    seeds = {kind: {job.recipe["train"]["seed"] for job in each} for kind, each in kinds.items()}
    assert seeds["judge"] == {0, 1} and not seeds["tune"] & seeds["judge"]


def test_the_usual_protocol_never_says_less_than_the_result(done):
    for row in done[1].plain()["arms"]:
        usual = row["conventional"]
        assert usual["settings"] == 2 and usual["overestimation"] == pytest.approx(row["mean"] - usual["score"])
        assert usual["overestimation"] >= 0
        # Where both protocols choose the same they say the same, to the last bit.
        assert (usual["overestimation"] == 0) == (usual["chosen"] == row["tuned"]["chosen"])


def test_the_checklist_stands_beside_the_result(done):
    plain = json.loads((done[0] / "out" / "comparison.json").read_text())
    told = plain["tuning"]
    assert (told["tuner"], told["tune_seeds"], told["test_seeds"]) == ("random", 1, 2)
    assert told["budget_runs"] == {"four": 2, "one": 2} and told["runs"] == {"four": 4, "one": 4}
    assert told["space"]["one"]["optimizer.lr"] == pytest.approx({"low": 1e-3, "high": 1e-1})
    assert told["incumbent"]["one"] == plain["arms"][1]["tuned"]["chosen"]
    page = (done[0] / "out" / "comparison.html").read_text()
    for words in ("Tuner random", "What the usual protocol would have said", "tuning included", "<h2>Landscape</h2>"):
        assert words in page


def test_studies_take_the_fastest_setting_of_each(done):
    told = done[1].plain()["arms"][0]["studies"]
    assert len(told["steps"]["each"]) == 1 and 0 <= told["score"] <= 1


def test_evolution_tunes_all_arms_at_equal_cost_and_takes_the_best_full_run():
    """A short run looks better than a full one here, and must not be taken for it."""
    value = lambda job: -abs(job.recipe["x"] - 0.5) + (1.0 if job.share < 1 else 0.0)
    crew = Standin(lambda job: scored(job, value(job)))
    ask = lambda name: lambda values, seed, share: Job("tune", {"arm": name, "seed": seed, **values}, {}, share=share)
    arms = {name: ({"x": Range(0.0, high)}, ask(name)) for name, high in (("a", 1.0), ("b", 0.4))}
    found = tune(arms, Tuning(trials=9, sampler="dehb", seeds=2), (7, 8), "q", True, crew)
    assert found["a"].cost == found["b"].cost == pytest.approx(2 * (3 + 8 / 3 + 3))
    for one in found.values():
        full = [entry["score"] for entry in one.history if entry["share"] == 1.0]
        assert one.score == max(full) == one.history[-1]["incumbent"] < 0.5
    assert abs(found["a"].chosen["x"] - 0.5) < 0.1 and found["b"].chosen["x"] > 0.3


class Standin:
    """A crew whose results are computed from the jobs."""

    def __init__(self, result):
        self.result, self.jobs = result, []

    def results(self, jobs):
        self.jobs += jobs
        return [self.result(job) for job in jobs]


def judge(name, seed, values, schedule):
    return Job("judge", {"arm": name, "seed": seed, "values": values}, {})


def scored(job, value):
    return Result(job.key, (Scores("q", "q", "target", "share", True, np.array([value]), np.ones(1), ["0"]),))


def test_the_usual_protocol_takes_the_best_of_the_judging_seeds():
    """Setting 1 won the tuning; on the judging seeds setting 2 is better on average, setting 3 cannot be trained with
    one of them, and setting 4 was only tried cut short."""
    table = {1: (0.4, 0.6), 2: (0.9, 0.3), 3: (1.0, None), 4: (1.0, 1.0)}
    history = tuple({"values": {"k": k}, "score": 0.0, "share": 1.0 if k < 4 else 1 / 3} for k in (4, 1, 2, 3, 2))
    value = lambda job: table[job.recipe["values"]["k"]][job.recipe["seed"]]
    crew = Standin(lambda job: Result(job.key, failed="nan") if value(job) is None else scored(job, value(job)))
    found = conventional({"a": Tuned({"k": 1}, 0.0, history, 3.0)}, range(2), judge, "q", True, crew)["a"]
    assert (found.chosen, found.score, found.settings) == ({"k": 2}, pytest.approx(0.6), 2)
    assert len(crew.jobs) == 3 * 2
    lower = conventional({"a": Tuned({"k": 1}, 0.0, history, 3.0)}, range(2), judge, "q", False, crew)["a"]
    assert lower.chosen == {"k": 1} and lower.score == pytest.approx(0.5)


def test_the_rank_by_the_usual_protocol_may_differ(outcome):
    from dataclasses import replace

    from tunewright.comparison.outcome import Conventional

    made = outcome({"a": [[0.5], [0.5]], "b": [[0.4], [0.4]]})
    usual = {"a": 0.5, "b": 0.7}
    arms = tuple(replace(arm, conventional=Conventional({}, usual[arm.name], 8)) for arm in made.arms)
    rows = {row["name"]: row["conventional"] for row in replace(made, arms=arms).plain()["arms"]}
    assert (rows["a"]["rank"], rows["a"]["rank_of_result"], rows["b"]["rank"], rows["b"]["rank_of_result"]) == (
        2,
        1,
        1,
        2,
    )
    assert rows["b"]["overestimation"] == pytest.approx(0.3) and rows["a"]["overestimation"] == 0


def test_a_study_waits_for_its_fastest_setting_only():
    """A setting x needs 100 x steps and never arrives above 0.5; both arms draw the same places of their spaces."""
    reached = lambda x: ({"step": 100 * x, "tokens": 1000 * x, "seconds": x, "value": 1.0},) if x < 0.5 else ()
    crew = Standin(lambda job: Result(job.key, course=reached(job.recipe["values"]["x"])))
    spaces = {"a": {"x": Range(0.0, 1.0)}, "b": {"x": Range(0.0, 0.5)}, "c": {"x": Choice((0.6, 0.7))}}
    found = studies(spaces, 5, Target(1.0, 1, studies=3), judge, True, crew)
    assert len(crew.jobs) == 3 * 3 * 5 and [job.recipe["seed"] for job in crew.jobs[:15]] == [0] * 5 + [1] * 5 + [2] * 5
    drawn = np.array([job.recipe["values"]["x"] for job in crew.jobs[:15]]).reshape(3, 5)
    assert found["a"].steps == pytest.approx(100 * drawn.min(1)) and len(np.unique(drawn)) == 15
    assert found["b"].tokens == pytest.approx(found["a"].tokens / 2) and found["c"].reached == 0


def test_baselines_set_the_target_on_seeds_of_their_own():
    """Arm x rises to 0.1 x + 0.01 (seed's place) and falls again: the best on the way counts, and its median."""

    def course(job):
        top = 0.1 * job.recipe["values"]["x"] + 0.01 * (job.recipe["seed"] - FIRST_REPEAT)
        return tuple({"step": k, "tokens": k, "seconds": k, "value": v} for k, v in enumerate((0.0, top, 0.05)))

    crew = Standin(lambda job: Result(job.key, course=course(job)))
    chosen = {"a": ({"x": 2}, ()), "b": ({"x": 4}, ()), "c": ({"x": 9}, ())}
    target = Target(of=("a", "b"), repeats=3)
    assert set_by(target, chosen, judge, True, crew) == pytest.approx({"a": 0.21, "b": 0.41})
    assert [job.recipe["seed"] - FIRST_REPEAT for job in crew.jobs] == [0, 1, 2, 0, 1, 2]
    assert set_by(target, chosen, judge, False, crew) == {"a": 0.0, "b": 0.0}
    with pytest.raises(Fault, match="'b', which is to set the target"):
        failing = lambda job: Result(job.key, (), course(job), failed="nan" if job.recipe["values"]["x"] == 4 else None)
        set_by(target, chosen, judge, True, Standin(failing))
    for wrong in ({}, {"value": 1.0, "of": ("a",)}, {"of": ("a",), "repeats": 0}):
        with pytest.raises(BadInput, match="target"):
            Target(**wrong)


def test_a_comparison_waits_for_what_its_baseline_reaches(small, tmp_path):
    arms = [Arm("four", small), Arm("one", {**small, "adapter": {"method": "lora", "rank": 1}})]
    done = compare(arms, tmp_path / "out", seeds=2, target=Target(every=1, of=("four",), repeats=2), jobs=1)
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["target"] == found["target_set_by"]["four"] == done.target and done.done == 1 + 4 + 2
    assert (
        found["arms"][0]["times"]["reached"] <= 2
        and "target was set by" in (tmp_path / "out" / "comparison.html").read_text()
    )
    again = compare(arms, tmp_path / "out", seeds=2, target=Target(every=1, of=("four",), repeats=2), jobs=1)
    assert again.done == 0 and again.target == done.target
    with pytest.raises(BadInput, match="Did you mean 'four'"):
        compare(arms, tmp_path / "out", seeds=2, target=Target(of=("for",)))


def test_what_cannot_be_done_is_refused_before_anything_is_trained(small, tmp_path):
    arms = [Arm("a", small), Arm("b", {**small, "adapter": {"method": "lora", "rank": 1}})]
    with pytest.raises(BadInput, match="studies need something to tune"):
        compare(arms, tmp_path / "out", target=Target(1.0, 1, studies=2))
    with pytest.raises(BadInput, match="Did you mean 'rank'"):
        compare(arms, tmp_path / "out", landscape=Landscape({"adapter.rnk": "1,2"}))
    with pytest.raises(BadInput, match="fixed by the comparison"):
        compare(arms, tmp_path / "out", landscape=Landscape({"data.limit": "1,2"}))
    assert not (tmp_path / "out").exists()
