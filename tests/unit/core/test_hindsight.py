"""Intervals learnt from recorded runs: they hold what they say, and nothing is told from too few."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tunewright import hindsight, pipeline
from tunewright.data import cache
from tunewright.errors import BadInput
from tunewright.hindsight import Outcome
from tunewright.report.evidence import Plan

HERE = "Linux x86_64, 2 cores"


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "none yet"))


def outcome(seconds=1.0, memory=1.0, machine=HERE):
    return Outcome(machine, "fp32", "0.1.0", 10.0, 10.0 * seconds, 1000, round(1000 * memory))


def test_outcomes_of_this_kind_of_machine_come_back_in_order():
    assert hindsight.outcomes(HERE) == []
    kept = [outcome(ratio) for ratio in (0.5, 2.0)]
    for one in (kept[0], outcome(9.0, machine="another"), kept[1]):
        hindsight.remember(one)
    assert hindsight.outcomes(HERE) == kept
    assert hindsight.seconds_ratios(kept) == [0.5, 2.0] and hindsight.memory_ratios(kept) == [1.0, 1.0]


def test_a_line_holds_numbers_and_the_machine_alone():
    hindsight.remember(outcome())
    [line] = hindsight.file().read_text().splitlines()
    assert set(json.loads(line)) == {
        "machine", "precision", "version", "predicted_seconds", "actual_seconds", "predicted_bytes", "actual_bytes",
    }  # fmt: skip


def test_only_the_newest_count(monkeypatch):
    monkeypatch.setattr(hindsight, "RECENT", 3)
    for ratio in (1.0, 2.0, 3.0, 4.0):
        hindsight.remember(outcome(ratio))
    assert hindsight.seconds_ratios(hindsight.outcomes(HERE)) == [2.0, 3.0, 4.0]


def test_no_interval_from_four_runs_and_one_from_five():
    assert hindsight.interval([1.0] * 4) is None
    assert hindsight.interval([2.0] * 5) == pytest.approx((2.0, 2.0))


def test_the_interval_by_hand():
    """Logs -1, 0, 0, 0, 1: mean 0, variance 2 / 4; t(0.9, 4) = 1.5332; half = 1.5332 * sqrt(0.5) * sqrt(1.2) = 1.18761."""
    low, high = hindsight.interval([np.exp(-1), 1, 1, 1, np.e])
    assert (np.log(low), np.log(high)) == pytest.approx((-1.18761, 1.18761), abs=1e-4)


@pytest.mark.parametrize("n", [5, 20])
def test_eight_of_ten_further_runs_fall_inside(n):
    """4,000 draws: a share of 0.8 has a standard error of 0.0063; quantiles of five ratios alone would hold 0.56."""
    draws = np.exp(np.random.default_rng(0).normal(0.3, 0.5, (4000, n + 1)))
    inside = 0
    for *seen, further in draws:
        low, high = hindsight.interval(seen)
        inside += low <= further <= high
    assert inside / 4000 == pytest.approx(0.8, abs=0.02)


def test_errors_are_quantiles_of_actual_over_predicted():
    assert hindsight.errors(HERE) == {"file": str(hindsight.file()), "machine": HERE, "runs": 0}
    for ratio in np.linspace(0.5, 1.5, 11):
        hindsight.remember(outcome(ratio, 2 * ratio))
    told = hindsight.errors(HERE)
    assert told["runs"] == 11
    assert [told[key] for key in ("time_ratio_10", "time_ratio", "time_ratio_90")] == [0.6, 1.0, 1.4]
    assert [told[key] for key in ("memory_ratio_10", "memory_ratio", "memory_ratio_90")] == [1.2, 2.0, 2.8]


@pytest.mark.parametrize("line", ["{", "[]", "{}", json.dumps({**vars(outcome()), "actual_seconds": 0})])
def test_a_line_that_is_no_outcome_is_told_with_its_number(line):
    hindsight.remember(outcome())
    with hindsight.file().open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(BadInput, match=r"predictions\.jsonl.*2"):
        hindsight.outcomes(HERE)


def ended(**changes):
    """The parts of a run that ended after its tenth step of ten, as the pipeline remembers it."""
    given = {"step": 10, "cache": True, "plan": Plan(
        predicted_memory_bytes=900, actual_memory_bytes=1000, predicted_seconds=2.0, actual_seconds=3.0,
    ), **changes}  # fmt: skip
    said = []
    assembly = SimpleNamespace(
        recipe=SimpleNamespace(data=SimpleNamespace(cache=given["cache"])),
        world=SimpleNamespace(device=SimpleNamespace(type="cpu"), size=1),
        precision="fp32",
    )
    loop = SimpleNamespace(state=SimpleNamespace(step=given["step"]), total=10)
    pipeline._remember(SimpleNamespace(plan=given["plan"]), assembly, loop, said.append)
    return said


def test_a_finished_run_is_remembered():
    assert ended() == []
    [line] = map(json.loads, hindsight.file().read_text().splitlines())
    assert (line["predicted_seconds"], line["actual_seconds"], line["predicted_bytes"], line["actual_bytes"]) == (
        2.0, 3.0, 900, 1000,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"step": 9}, {"cache": False}, {"plan": None}, {"plan": Plan(predicted_seconds=1.0)}]
)
def test_a_run_that_ended_early_keeps_nothing_or_was_not_predicted_is_not(changes):
    assert ended(**changes) == [] and not hindsight.file().exists()


def test_a_cache_that_cannot_be_written_is_said_and_spoils_no_run(tmp_path):
    (tmp_path / "none yet").write_text("a file where the folder should be")
    [said] = ended()
    assert said.startswith("What this run took is not kept for later plans: ")
