"""Several recipes as one chain, and the claims board, through the command line."""

import itertools
import json

import pytest
from command_line import call, good, pairs, rows_file, written

from tunewright import board, chain
from tunewright.errors import Fault
from tunewright.train.checkpoint import Checkpoints


@pytest.fixture
def stages(small, tmp_path):
    """Two recipes on one model with different rows."""
    other = {**small, "data": {**small["data"], "train": str(rows_file(tmp_path / "other.jsonl", pairs(60, 200)))}}
    other["data"]["eval"] = str(rows_file(tmp_path / "held.jsonl", pairs(12, 300)))
    return [written(tmp_path, recipe, name) for name, recipe in (("sums.yaml", small), ("more.yaml", other))]


def test_a_chain_goes_on_with_what_the_stage_before_made(stages, tmp_path):
    found = good("run", *stages, "-o", tmp_path / "out", "--json").json()
    assert found["stages"] == ["sums", "more"] and found["measures"] == ["perplexity", "perplexity"]
    assert [len(row) for row in found["matrix"]] == [2, 2, 2]
    first, second = (
        json.loads((tmp_path / "out" / name / "evidence.json").read_text()) for name in ("1-sums", "2-more")
    )
    loss = lambda evidence, when: next(m[when] for m in evidence["measures"] if m["name"] == "perplexity")
    from math import exp

    assert found["matrix"][0][0] == pytest.approx(exp(-loss(first, "before")), rel=1e-4)
    assert found["matrix"][1][0] == pytest.approx(exp(-loss(first, "after")), rel=1e-4)
    # The second stage begins where the first ended: its own rows score before it as they did after the first.
    assert found["matrix"][1][1] == pytest.approx(exp(-loss(second, "before")), rel=1e-3)
    assert found["matrix"][2][1] == pytest.approx(exp(-loss(second, "after")), rel=1e-3)
    page = (tmp_path / "out" / "chain.html").read_text()
    assert "class='heat'" in page and page.count("<td class='n") == 6 and page.count(" own'") == 2
    assert [len(row) for row in found["intervals"]] == [2, 2, 2] and page.count("<small>[") == 6
    for scores, intervals in zip(found["matrix"], found["intervals"], strict=True):
        assert all(low < score < high for score, (low, high) in zip(scores, intervals, strict=True))
    forgotten = {name: value for name, value, _ in found["quantities"]}["forgetting"]
    assert forgotten == pytest.approx(found["matrix"][1][0] - found["matrix"][2][0])


def bits(folder):
    """What must not depend on interruptions: the numbers, the page, and every stage's weights."""
    names = [
        "chain.json",
        "chain.html",
        *(f"{stage}/adapter/adapter_model.safetensors" for stage in ("1-sums", "2-more")),
    ]
    return {name: (folder / name).read_bytes() for name in names}


def stopped_at(monkeypatch, owner, name, call_number):
    """Makes a function end the process's work, as a crash would, when it is called for the n-th time."""
    calls, own = itertools.count(1), getattr(owner, name)

    def dies(*given, **named):
        if next(calls) == call_number:
            raise Fault("the machine went off")
        return own(*given, **named)

    monkeypatch.setattr(owner, name, dies)


@pytest.mark.parametrize(
    "owner, name, number, rows",
    [
        (chain, "assemble", 1, None),  # before anything is written
        (Checkpoints, "after_step", 5, 1),  # in the first stage, after its checkpoint of step 4
        (chain, "export", 1, 1),  # between the first stage and its model
        (Checkpoints, "after_step", 10, 2),  # in the second stage, after its checkpoint of step 2
        (chain, "summary", 1, 3),  # with all stages finished
    ],
    ids=["begin", "first", "export", "second", "end"],
)
def test_an_interrupted_chain_goes_on_to_the_same_bits(stages, tmp_path, monkeypatch, owner, name, number, rows):
    out = tmp_path / "out"
    good("run", *stages, "-o", tmp_path / "whole", "-q")
    with monkeypatch.context() as patched:
        stopped_at(patched, owner, name, number)
        ended = call("run", *stages, "-o", out, "-q")
        assert ended.status != 0 and "the machine went off" in ended.err
    assert not (out / "chain.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    if rows is None:
        assert not out.exists()
    else:
        assert len(json.loads((out / "matrix.json").read_text())["rows"]) == rows
        assert call("run", *stages, "-o", out, "-q").status == 2
    resumed = good("run", *stages, "-o", out, "--resume")
    assert ("Resuming after step" in resumed.err) == (name in ("after_step", "export"))
    assert bits(out) == bits(tmp_path / "whole")
    # What belongs to a finished stage was not written again.
    for stage in ("1-sums", "2-more")[: (rows or 1) - 1]:
        mine = [path for path in before if path.is_relative_to(out / stage)]
        assert mine and all(path.stat().st_mtime_ns == before[path] for path in mine)
    steps = [json.loads(line) for line in (out / "2-more" / "metrics.jsonl").read_text().splitlines()]
    assert [one["step"] for one in steps if "loss" in one] == list(range(1, 7))


def test_a_chain_is_not_resumed_with_other_recipes_data_or_stages(stages, small, tmp_path):
    first, second = stages
    out = tmp_path / "out"
    good("run", first, second, "-o", out, "-q")
    found, model = bits(out), out / "1-sums" / "model"
    asked = lambda *given: call("run", *given, "-o", out, "-q", "--resume")
    assert asked(first, second).status == 0
    assert "other stages" in asked(second, first).err
    assert "another recipe" in asked(first, second, "--set", "optimizer.lr=0.5").err
    kept = json.loads((out / "matrix.json").read_text())
    (out / "matrix.json").write_text(json.dumps({**kept, "rows": kept["rows"][:2]}))
    (model / "config.json").rename(tmp_path / "config.json")
    assert "no longer whole" in asked(first, second).err
    (tmp_path / "config.json").rename(model / "config.json")
    rows = (tmp_path / "other.jsonl").read_text()
    (tmp_path / "other.jsonl").write_text(rows + rows.splitlines(keepends=True)[0])
    changed = asked(first, second)
    assert changed.status == 2 and "data of the stage 'more' changed" in changed.err and "other.jsonl" in changed.err
    assert bits(out) == found
    (tmp_path / "other.jsonl").write_text(rows)
    assert asked(first, second).status == 0 and bits(out) == found
    # Overwriting begins anew, in the stages too.
    good("run", first, second, "-o", out, "-q", "--overwrite", "--set", "optimizer.lr=0.02")
    assert bits(out) != found
    (out / "2-more" / "mine").write_text("kept")
    refused = call("run", first, second, "-o", out, "-q", "--overwrite")
    assert refused.status == 2 and "no run wrote" in refused.err and (out / "matrix.json").exists()


def test_a_chain_that_cannot_be_is_refused_before_anything_runs(stages, small, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    idle = written(tmp_path, {**small, "evaluate": []}, "idle.yaml")
    elsewhere = written(tmp_path, {**small, "model": "nano"}, "elsewhere.yaml")
    for arguments, said in (
        ((stages[0], stages[0]), "same name"),
        ((stages[0], idle), "measures no task"),
        ((stages[0], elsewhere), "name one model"),
        ((*stages, "--resume", "--overwrite"), "Give one of them"),
        ((*stages, "-o", tmp_path / "full", "--resume"), "no chain to resume"),
        ((*stages, "-o", tmp_path / "full"), "exists already"),
        ((*stages, "-o", tmp_path / "full" / "mine", "--resume"), "cannot be written"),
    ):
        ended = call("run", *arguments, *(() if "-o" in arguments else ("-o", tmp_path / "new")))
        assert ended.status == 2 and said in ended.err and "Traceback" not in ended.err
        assert not (tmp_path / "new").exists() and (tmp_path / "full" / "mine").read_text() == "kept"


def test_the_board_as_text_and_as_json():
    rows = good("claims", "--json").json()
    assert {row["name"] for row in rows} == {row["name"] for row in board.listed()}
    assert all(row["verdict"] in ("holds", "does not hold", "undecided", None) for row in rows)
    text = good("claims").out
    assert "verdict" in text and "tuning_seeds" in text.replace("\n", "")


def test_a_claim_is_run_again_to_the_same_verdict(tmp_path):
    [row] = good("claims", "run", "curve_forecast", "--results", tmp_path, "--json").json()
    kept = next(each for each in board.listed() if each["name"] == "curve_forecast")
    same = ("verdict", "effect", "low", "high", "unit", "seeds")
    assert (
        [row[key] for key in same] == pytest.approx([kept[key] for key in same]) if kept["verdict"] else row["verdict"]
    )
    assert (tmp_path / "curve_forecast.json").is_file()


def test_claims_to_run_must_be_named(tmp_path):
    for arguments, said in (((), "which claims?"), (("curve_forcast",), "curve_forecast"), (("--kind", "dta"), "data")):
        ended = call("claims", "run", *arguments, "--results", tmp_path)
        assert ended.status == 2 and said in ended.err
