"""The main job on a real pretrained model and real data, through the command line."""

import pytest
from command_line import call, ended, evidence, good, started, written

DEMOS = {
    "alpaca_en_demo.json": "Alpaca",
    "dpo_en_demo.json": "preference",
    "kto_en_demo.json": "unpaired",
    "glaive_toolcall_en_demo.json": "ShareGPT",
    "identity.json": "Alpaca",
    "wiki_demo.txt": "plain text",
    "c4_demo.jsonl": "plain text",
    "v1_sft_demo.jsonl": "chat messages",
    "v1_dpo_demo.jsonl": "preference",
}


def tuned(tmp_path, recipe):
    """The evidence of a run of the recipe: written whole, and a held-out loss that fell for sure."""
    recipe = {
        "adapter": {"method": "lora", "rank": 16},
        "optimizer": {"method": "adamw", "lr": 2e-3},
        "evaluate": ["perplexity"],
        **recipe,
    }
    recipe["train"] = {"tokens_per_step": 1024, "trackers": [], **recipe["train"]}
    folder = tmp_path / "out"
    good("run", written(tmp_path, recipe), "--output", folder, "--quiet")
    assert list((folder / "adapter").glob("*.safetensors"))
    assert "<html" in (folder / "report.html").read_text()
    found, measures = evidence(folder)
    loss = measures["perplexity"]
    assert loss["metric"] == "loss" and loss["after"] < loss["before"] and loss["high"] < 0
    assert found["verdict"]
    return measures


def test_memory_is_predicted(shared, llama, tmp_path):
    """Plan and run each in a process of its own, since both report the peak of their process."""
    recipe = written(tmp_path, {
        "model": llama,
        "data": {
            "train": {"path": shared / "data/gsm8k/train.jsonl", "limit": 150},
            "eval": {"path": shared / "data/gsm8k/test.jsonl", "limit": 24},
        },
        "train": {"steps": 4, "tokens_per_step": 2048, "trackers": []},
        "evaluate": ["perplexity"],
    })  # fmt: skip
    planned = ended(started("plan", recipe, "--json"))
    run = ended(started("run", recipe, "--output", tmp_path / "out", "--json"))
    assert planned.status == 0 and run.status == 0, planned.err + run.err
    actual = run.json()["cost"]["peak_memory_bytes"]
    assert planned.json()["peak_memory_bytes"] == pytest.approx(actual, rel=0.15)


@pytest.mark.slow
def test_stories(shared, llama, tmp_path):
    tuned(tmp_path, {
        "model": llama,
        "data": {
            "train": {"path": shared / "data/tinystories_sample/tinystories_sample.txt", "limit": 120},
            "truncation": "right",
        },
        "optimizer": {"method": "adamw", "lr": 5e-4},
        "train": {"steps": 24},
    })  # fmt: skip


def test_stories_whole(shared, llama, tmp_path):
    tuned(tmp_path, {
        "model": llama,
        "data": {
            "train": {"path": shared / "data/tinystories_sample/tinystories_sample.txt", "limit": 120},
            "truncation": "right",
        },
        "adapter": "full",
        "optimizer": {"method": "adamw", "lr": 1e-4},
        "train": {"steps": 24},
    })  # fmt: skip


@pytest.mark.slow
def test_sentiment(shared, llama, tmp_path):
    """Whether a sentence praises, from a model that only tells stories."""
    measures = tuned(tmp_path, {
        "model": llama,
        "data": {
            "train": {"path": shared / "data/sst2/train.tsv", "limit": 5000},
            "eval": {"path": shared / "data/sst2/dev.tsv", "limit": 600},
            "fields": {"text": "sentence"},
            "labels": {0: "negative", 1: "positive"},
        },
        "adapter": "full",
        "optimizer": {"method": "adamw", "lr": 1e-3},
        "train": {"epochs": 1, "tokens_per_step": 512},
        "evaluate": ["classification", "perplexity"],
    })  # fmt: skip
    accuracy = measures["classification"]
    assert accuracy["metric"] == "accuracy" and accuracy["n"] == 600
    assert accuracy["after"] >= 0.6 and accuracy["low"] > 0


@pytest.mark.slow
def test_word_problems(shared, llama, tmp_path):
    measures = tuned(tmp_path, {
        "model": llama,
        "data": {
            "train": {"path": shared / "data/gsm8k/train.jsonl", "limit": 1500},
            "eval": {"path": shared / "data/gsm8k/test.jsonl", "limit": 60},
        },
        "train": {"steps": 40},
        "evaluate": ["perplexity", {"task": "number_match", "limit": 8, "max_new_tokens": 96}],
    })  # fmt: skip
    assert measures["number_match"]["n"] == 8


@pytest.mark.parametrize("name", DEMOS)
def test_a_demonstration_file_is_checked_and_shown(name, shared, llama, tmp_path):
    source = {"path": shared / "data/llamafactory_demos" / name, "truncation": "right"}
    recipe = written(tmp_path, {"model": llama, "data": {"train": source}})
    checked = good("data", "check", recipe).out
    assert DEMOS[name].lower() in checked.lower() and "all fine" in checked
    shown = good("preview", recipe, "--plain", "-n", "2").out
    assert "with loss" in shown and "tokens lost" in shown


def test_a_file_that_holds_no_rows(shared, llama, tmp_path):
    path = shared / "data/llamafactory_demos/dataset_info.json"
    recipe = written(tmp_path, {"model": llama, "data": {"train": path}})
    for command in (("data", "check"), ("preview", "--plain")):
        ended = call(*command, recipe)
        assert ended.status == 2 and "dataset_info.json:1" in ended.err + ended.out
        assert "expected an array of objects" in " ".join((ended.err + ended.out).split())


def test_most_rows_lost_stops_the_run(shared, llama, tmp_path):
    path = shared / "data/llamafactory_demos/dpo_en_demo.json"
    recipe = written(tmp_path, {"model": llama, "data": {"train": path}})
    ended = call("run", recipe, "--output", tmp_path / "out")
    assert ended.status == 2 and "dpo_en_demo.json" in ended.err and "truncation" in ended.err
    checked = call("data", "check", recipe)
    assert checked.status == 2 and "truncation" in checked.err + checked.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("alpaca_en_demo.json", marks=pytest.mark.slow),
        "identity.json",
        pytest.param("v1_sft_demo.jsonl", marks=pytest.mark.slow),
        pytest.param("c4_demo.jsonl", marks=pytest.mark.slow),
    ],
)
def test_a_demonstration_file_is_learned(name, shared, llama, tmp_path):
    tuned(tmp_path, {
        "model": llama,
        "data": {
            "train": {"path": shared / "data/llamafactory_demos" / name, "limit": 300},
            "truncation": "right",
        },
        "train": {"steps": 16},
    })  # fmt: skip
