"""Effects, verdict and page from known scores: direction, correction, what may be said and what not."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from tunewright.comparison.calibration import calibrate, judge, told
from tunewright.comparison.outcome import Times
from tunewright.comparison.page import frontier, render
from tunewright.comparison.verdict import plain
from tunewright.errors import BadInput
from tunewright.evaluate.statistics import holm

RNG = np.random.default_rng(5)


def scores(mean, seeds=5, n=40, noise=0.01):
    return mean + RNG.normal(0, noise, (seeds, 1)) + RNG.normal(0, 0.05, n)


BASE, GOOD, SAME = scores(0.4), scores(0.6), scores(0.4)


def test_an_effect_is_the_paired_t_test_over_seeds(outcome):
    found = outcome({"a": BASE, "b": GOOD, "c": SAME})
    theirs = [scipy.stats.ttest_rel(other.mean(1), BASE.mean(1)) for other in (GOOD, SAME)]
    b, c = (found.effect("quality", name) for name in "bc")
    assert (b.p, c.p) == pytest.approx([one.pvalue for one in theirs])
    assert (b.p_corrected, c.p_corrected) == pytest.approx(holm([b.p, c.p]))
    assert (b.low, b.high) == pytest.approx(tuple(theirs[0].confidence_interval(0.95)))
    assert b.finding == "better" and c.finding == "no difference found"
    assert b.wins + b.ties + b.losses == 40 and b.wins == 40


def test_lower_is_better_where_the_measure_says_so(outcome):
    found = outcome({"a": BASE, "b": GOOD}, higher=False)
    effect = found.effect("quality", "b")
    assert effect.finding == "worse" and effect.losses == 40
    assert found.effect("quality", "a", reference="b").finding == "better"


def test_two_seeds_decide_nothing(outcome):
    found = outcome({"a": BASE[:2], "b": GOOD[:2]})
    assert found.effect("quality", "b").finding == "too few seeds"
    assert "too few seeds to judge (2)" in found.verdict


def test_correction_can_take_a_finding_back(outcome):
    noisy = lambda shift: np.asarray([[0.0], [0.1], [0.0], [0.1], [0.0]]) + shift + np.zeros((5, 12))
    wave = np.asarray([0.02, -0.02, 0.0, 0.03, -0.01])[:, None]
    arms = {"a": noisy(0.0), "b": noisy(0.028) + wave} | {f"x{k}": noisy(0.0) + np.roll(wave, k) for k in range(6)}
    few, many = outcome({"a": arms["a"], "b": arms["b"]}), outcome(arms)
    assert few.effect("quality", "b").p == pytest.approx(many.effect("quality", "b").p)
    assert (
        few.effect("quality", "b").finding == "better" and many.effect("quality", "b").finding == "no difference found"
    )


def test_the_verdict_speaks_of_recipes_and_of_what_was_not_found(outcome):
    said = outcome({"a": BASE, "b": GOOD, "c": SAME}).verdict
    assert said.startswith("these recipes, over 5 seeds") and "'b' +" in said and "points against 'a': better" in said
    assert "'c'" in said and "no difference found" in said and "4 times in 5" in said and "model" not in said


def test_equal_scores_in_every_seed_promise_no_sharpness(outcome):
    said = outcome({"a": BASE, "b": BASE}).verdict
    assert said.endswith("no difference found, the same in every seed")


def test_names_that_are_not_there_are_refused(outcome):
    found = outcome({"alpha": BASE, "beta": GOOD})
    with pytest.raises(BadInput, match="alpha"):
        found.effect("quality", "alfa")
    with pytest.raises(BadInput, match="quality"):
        found.effect("qualty", "beta")


def test_json_holds_what_is_promised(outcome):
    found = json.loads(json.dumps(plain(outcome({"a": BASE, "b": GOOD})), allow_nan=False))
    assert {"verdict", "arms", "seeds", "budget"} <= found.keys() and found["seeds"] == [0, 1, 2, 3, 4]
    keys = {"name", "mean", "low", "high", "delta", "delta_low", "delta_high", "p", "p_corrected", "cost"}
    assert all(keys <= arm.keys() for arm in found["arms"])
    assert found["arms"][0]["delta"] is None and found["arms"][1]["delta"] == pytest.approx(GOOD.mean() - BASE.mean())
    assert found["measures"]["quality"]["arms"][1]["p"] == found["arms"][1]["p"]


def test_the_frontier_leaves_out_what_costs_more_for_less(outcome):
    found = outcome({"a": BASE, "b": GOOD, "c": SAME - 0.2})  # each costs more than the one before
    assert frontier(found, "seconds") == ["a", "b"]


def test_the_page_escapes_names_and_needs_nothing_else(outcome):
    page = render(outcome({"<b>a</b>": BASE, "b & c": GOOD}, warnings=("<i>few</i>",)))
    assert "&lt;b&gt;a&lt;/b&gt;" in page and "<b>a</b>" not in page and "b &amp; c" in page and "<i>few" not in page
    assert "src=" not in page and "http" not in page and "No difference found" in page


def test_the_terminal_shows_the_table(outcome):
    import io

    from rich.console import Console

    from tunewright.report.console import show_comparison

    found = outcome({"a": BASE, "b": GOOD}, warnings=("look here",))
    shown, folder = io.StringIO(), Path("/a/long/folder" * 8)
    show_comparison(plain(found), folder, Console(file=shown, width=80))
    text = shown.getvalue()
    assert found.verdict[:60] in text and "warning: look here" in text
    assert f"{folder}/comparison.html\n" in text, "a path is there to be copied"
    table = text[text.index("difference") : text.index("warning")]
    assert "…" not in table, "a narrow terminal must not cut what was found"
    lines = [line.split() for line in table.splitlines() if line.strip()]
    assert {"a", "b", "reference", "better"} <= {words[0] for words in lines}
    assert "40, 0" in table and "memory" in text


def test_the_time_to_a_target_is_scored_against_the_fastest(outcome):
    from dataclasses import replace

    made = outcome({"a": BASE, "b": GOOD, "c": SAME})
    waited = {"a": [100.0] * 5, "b": [200.0] * 5, "c": [100.0, *[np.inf] * 4]}
    arms = [replace(arm, times=Times(*(np.asarray(waited[arm.name]),) * 3)) for arm in made.arms]
    times = [arm["times"] for arm in plain(replace(made, arms=tuple(arms), target=0.5))["arms"]]
    assert [one["score"] for one in times] == pytest.approx([1.0, 2 / 3, 0.0])
    assert [one["reached"] for one in times] == [5, 5, 1] and times[2]["tokens"]["median"] is None
    assert "Time to result" in render(replace(made, arms=tuple(arms), target=0.5))


def test_a_pool_too_small_for_its_draws_is_refused(tmp_path):
    with pytest.raises(BadInput, match="too small a pool"):
        calibrate(tmp_path, runs=19)


def test_no_difference_is_found_in_one_of_twenty_where_there_is_none():
    pool = np.random.default_rng(1).normal(0.5, 0.03, (60, 1)) + np.zeros((60, 20))
    found = judge("quality", pool, np.ones(20), seeds=5, draws=1000)
    assert 0.03 <= found.alarms <= 0.07 and found.family_alarms <= 0.07
    assert f"{found.alarms:.1%}" in told([found])
    assert [row["found"] for row in found.curve] == pytest.approx([row["expected"] for row in found.curve], abs=0.06)


def test_an_interval_over_examples_alone_cries_wolf():
    rng = np.random.default_rng(2)
    pool = rng.normal(0, 0.1, (60, 1)) + rng.normal(0, 0.3, (60, 100)) + rng.normal(0, 1, 100)
    assert judge("quality", pool, np.ones(100), seeds=5, draws=500).items_alone > 0.2
