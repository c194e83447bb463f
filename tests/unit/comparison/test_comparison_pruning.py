"""Stopping trials by the forecast of their learning curve, and settings held to limits of cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tunewright.comparison import Arm, Tuning, compare, request
from tunewright.comparison.jobs import Job, Result, digests, trial_recipe
from tunewright.comparison.kept import Kept
from tunewright.comparison.pruning import Growing, bar_of, hopeless
from tunewright.comparison.trial import Pruned, perform
from tunewright.comparison.tuning import tune
from tunewright.errors import BadInput
from tunewright.evaluate.base import Scores
from tunewright.recipe import Recipe
from tunewright.search.space import Choice, Range

STEPS = range(5, 101, 5)
SHARE = Scores("q", "q", "target", "share", True, np.zeros(1), np.ones(1), ["0"])
LOSS = replace(SHARE, unit="nats", higher_is_better=False)


def course(end, about=SHARE, b=0.5):
    """A power curve over the steps whose last value is `end`."""
    drop = lambda step: 0.3 * (step / 5) ** -b
    sign = 1 if about.higher_is_better else -1
    return [{"step": k, "tokens": k, "seconds": k, "value": end - sign * (drop(k) - drop(100))} for k in STEPS]


@pytest.mark.parametrize("about", [SHARE, LOSS])
def test_a_curve_without_noise_promises_its_end_from_the_eighth_measurement_on(about):
    bar = bar_of(course(0.6, about), about)
    assert [step for step, _ in bar] == list(STEPS)[7:]
    assert [promise for _, promise in bar] == pytest.approx([0.6] * 13, abs=1e-4)


def test_hopeless_is_what_falls_short_of_the_best_at_the_same_step_by_more_than_half_a_point():
    bar = ((40, 0.6), (45, 0.7))
    assert hopeless(0.594, 40, bar, SHARE) and not hopeless(0.596, 40, bar, SHARE)
    assert hopeless(0.606, 40, bar, LOSS) and not hopeless(0.604, 40, bar, LOSS)
    assert not hopeless(0.1, 50, bar, SHARE)


class Trained:
    """A crew whose trials follow curves, and end where the real hook would end them."""

    def __init__(self, end, about=SHARE, costs=lambda recipe: {}):
        self.end, self.about, self.costs, self.jobs = end, about, costs, []

    def results(self, jobs):
        self.jobs += jobs
        return [self._result(job) for job in jobs]

    def _result(self, job):
        way = course(self.end(job.recipe), self.about)
        growing, stopped = Growing(100), None
        for place, point in enumerate(way if job.bar else ()):
            promise = growing.promise(point["step"], point["value"], self.about)
            if promise is not None and point["step"] < 100 and hopeless(promise, point["step"], job.bar, self.about):
                way, stopped = way[: place + 1], {"share": point["step"] / 100, "forecast": promise}
                break
        scores = replace(self.about, values=np.array([way[-1]["value"]]))
        return Result(job.key, (scores,), tuple(way), self.costs(job.recipe), stopped=stopped)


def ask(values, seed, share):
    return Job("tune", {"seed": seed, **values}, {}, share=share)


@pytest.mark.parametrize("about", [SHARE, LOSS])
def test_worse_settings_are_stopped_and_the_choice_is_the_same(about):
    space = {"x": Choice((0.5, 0.7, 0.6, 0.4, 0.3, 0.65))}
    options = {"trials": 6, "sampler": "grid", "seeds": 2}
    crew = Trained(lambda recipe: recipe["x"] + 0.001 * recipe["seed"], about)
    higher = about.higher_is_better
    plain, pruned = (
        tune({"a": (space, ask)}, Tuning(**options, pruner=one), (0, 1), "q", higher, crew)["a"]
        for one in (None, "learning_curve")
    )
    assert pruned.chosen == plain.chosen and pruned.score == plain.score and plain.stopped == 0
    # The first four are proposed at once, before any curve is known; of the last two the worse ones are stopped.
    stopped = [one["values"]["x"] for one in pruned.history if "forecast" in one]
    assert stopped == [x for x in (0.3, 0.65) if (x < 0.7 if higher else x > 0.4)] and pruned.stopped == len(stopped)
    for one in pruned.history:
        if "forecast" in one:
            assert one["share"] == 0.4 and one["score"] is None
            assert one["forecast"] == pytest.approx(one["values"]["x"] + 0.0005, abs=1e-4)
    assert pruned.cost == pytest.approx(2 * (6 - 0.6 * len(stopped)))


def test_a_trial_stops_itself_and_its_result_says_where(small, monkeypatch):
    seen = []
    monkeypatch.setattr("tunewright.comparison.trial.hopeless", lambda *given: not seen.append(given))
    monkeypatch.setattr(Growing, "promise", lambda self, step, value, about: 9.0 if step >= 3 else None)
    recipe = Recipe.of(**small)
    job = Job("tune", trial_recipe(recipe, 0), digests(recipe), rows=10, measure="perplexity", every=1, bar=((3, 1.0),))
    assert Job.of(job.plain()) == job and job.key != replace(job, bar=((3, 2.0),)).key
    found = perform(job, Kept())
    assert found.stopped == {"share": 0.75, "forecast": 9.0} and not found.cut and found.cost["steps"] == 3
    assert seen == [(9.0, 3, ((3, 1.0),), seen[0][3])] and seen[0][3].metric == "loss"
    assert issubclass(Pruned, object) and [point["step"] for point in found.course] == [1, 2, 3]


@pytest.mark.slow
def test_a_whole_comparison_tells_what_was_stopped(small, tmp_path):
    longer = {**small, "train": {**small["train"], "steps": 10}}
    arms = [Arm("four", longer), Arm("one", {**longer, "adapter": {"method": "lora", "rank": 1}})]
    tuning = Tuning({"optimizer.lr": [1e-2, 1e-5]}, trials=2, sampler="grid", rows=10, pruner="learning_curve")
    done = compare(arms, tmp_path / "out", seeds=2, tune=tuning, jobs=1)
    found = done.plain()["tuning"]
    assert found["pruner"] == "learning_curve" and set(found["stopped"]) == {"four", "one"}
    assert "learning curve" in (tmp_path / "out" / "comparison.html").read_text()
    assert compare(arms, tmp_path / "out", seeds=2, tune=tuning, jobs=1).done == 0


def test_no_setting_beyond_a_limit_is_chosen():
    """Quality and cost both rise with x: the best within the limit is the largest allowed one."""
    crew = Trained(lambda recipe: recipe["x"] / 10, costs=lambda recipe: {"flops": 100.0 * recipe["x"]})
    space = {"x": Range(1, 8)}
    tuning = Tuning(trials=8, sampler="grid", limits={"flops": 450.0})
    found = tune({"a": (space, ask)}, tuning, (0,), "q", True, crew)["a"]
    assert found.chosen == {"x": 4} and [one["values"]["x"] for one in found.history if one.get("over")] == [5, 6, 7, 8]
    with pytest.raises(BadInput, match="within its limits"):
        tune({"a": (space, ask)}, replace(tuning, limits={"flops": 50.0}), (0,), "q", True, crew)


@pytest.mark.parametrize("sampler", ["noisy_ei", "kg", "fidelity_kg"])
def test_the_choice_of_a_process_has_its_largest_mean_and_spends_no_more_than_its_trials(sampler):
    crew = Trained(lambda recipe: 0.6 - (recipe["x"] - 0.4) ** 2)
    tuning = Tuning(trials=6, sampler=sampler, **({"together": 2} if sampler != "fidelity_kg" else {}))
    found = tune({"a": ({"x": Range(0.0, 1.0)}, ask)}, tuning, (0,), "q", True, crew)["a"]
    assert abs(found.chosen["x"] - 0.4) < 0.15 and found.cost <= 6 + 1e-9
    assert found.score in [one["score"] for one in found.history if one["share"] == 1.0]


def test_what_does_not_go_together_is_refused():
    for wrong, said in (
        ({"pruner": "median"}, "no such pruner"),
        ({"pruner": "learning_curve", "halving": 3}, "end trials themselves"),
        ({"pruner": "learning_curve", "sampler": "dehb"}, "end trials themselves"),
        ({"together": 2}, "propose as many"),
        ({"together": 0}, "too few"),
        ({"limits": {"flop": 1.0}}, "Did you mean 'flops'"),
        ({"limits": {"flops": 1.0}, "sampler": "pbt"}, "keeps to no limits"),
        ({"halving": 3, "sampler": "fidelity_kg"}, "chooses lengths itself"),
    ):
        with pytest.raises(BadInput, match=said):
            Tuning(**wrong)
    asked = request.tuning((), (), 8, "noisy_ei", 1, None, pruner="learning_curve", together=2, limits=["flops=1e9"])
    assert (asked.pruner, asked.together, asked.limits) == ("learning_curve", 2, {"flops": 1e9})
    with pytest.raises(BadInput, match="not a limit"):
        request.tuning((), (), 8, "tpe", 1, None, limits=["flops"])
