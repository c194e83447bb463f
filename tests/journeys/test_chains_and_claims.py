"""Several recipes as one chain, and the claims board, through the command line."""

import json

import pytest
from command_line import call, good, pairs, rows_file, written

from tunewright import board


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
    forgotten = {name: value for name, value, _ in found["quantities"]}["forgetting"]
    assert forgotten == pytest.approx(found["matrix"][1][0] - found["matrix"][2][0])


def test_a_chain_that_cannot_be_is_refused_before_anything_runs(stages, small, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    idle = written(tmp_path, {**small, "evaluate": []}, "idle.yaml")
    elsewhere = written(tmp_path, {**small, "model": "nano"}, "elsewhere.yaml")
    for arguments, said in (
        ((stages[0], stages[0]), "same name"),
        ((stages[0], idle), "measures no task"),
        ((stages[0], elsewhere), "name one model"),
        ((*stages, "--resume"), "cannot be resumed"),
        ((*stages, "-o", tmp_path / "full"), "exists already"),
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
