"""Every command on a tiny model: what it prints, what it leaves on disk, and how it ends."""

import json
import math
import os
import shutil
import signal
import time

import pytest
import torch
from command_line import call, ended, evidence, good, pairs, rows_file, started, written
from safetensors.torch import load_file, save_file

LEFT = {"recipe.yaml", "lock.json", "metrics.jsonl", "evidence.json", "report.html", "fixtures.json"}


@pytest.fixture
def done(small, tmp_path):
    """A finished run and its recipe."""
    recipe = written(tmp_path, small)
    good("run", recipe, "--output", tmp_path / "out")
    return tmp_path / "out", recipe


def weights(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_leaves_what_it_promises(done):
    folder, _ = done
    assert {path.name for path in folder.iterdir()} == LEFT | {"adapter", "checkpoints"}
    found, measures = evidence(folder)
    assert measures["perplexity"]["after"] < measures["perplexity"]["before"]
    cost = found["cost"]
    assert set(cost) == {
        "tokens", "seconds", "tokens_per_second", "peak_memory_bytes", "train_flops", "peak_by_phase",
    }  # fmt: skip
    assert [one["phase"] for one in cost["peak_by_phase"]] == [
        "loading", "measuring before", "preparing", "rehearsal", "training", "measuring after", "saving",
    ]  # fmt: skip
    assert cost["peak_memory_bytes"] >= max(one["peak_memory_bytes"] for one in cost["peak_by_phase"]) > 1e8
    assert found["plan"]["actual_memory_bytes"] == cost["peak_memory_bytes"]
    assert "held-out loss" in found["verdict"]
    lock = json.loads((folder / "lock.json").read_text())
    assert len(lock["data"]) == 2 and lock["seed"] == 0 and "model.safetensors" in lock["model"]["files"]


def test_what_became_of_every_row_is_told(small, tmp_path):
    """A row that the user's function leaves out and those held out are accounted for as duplicates are."""
    (tmp_path / "own.py").write_text("def odd(row):\n    return row if row['n'] % 4 else None\n")
    rows = [{"prompt": f"{n} +", "completion": f" {n}", "n": n} for n in [*range(40), 5]]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = written(tmp_path, small | {"data": {"train": {"path": "own.jsonl", "function": "own.py:odd"}}})
    good("run", recipe, "--output", tmp_path / "out")
    [source] = evidence(tmp_path / "out")[0]["data"]["sources"]
    assert (source["rows_in"], source["left_out"], source["duplicates"]) == (41, 10, 1) and source["held_out"] > 0
    gone = ("dropped", "empty", "duplicates", "overlap", "left_out", "held_out")
    assert source["rows_in"] == source["rows_kept"] + sum(source[name] for name in gone)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Left out" in page and "Held out" in page


def test_the_result_as_json(small, tmp_path):
    ended = good("run", written(tmp_path, small), "--output", tmp_path / "out", "--json")
    found = ended.json()
    assert found["output"] == str(tmp_path / "out") and found["measures"][0]["name"] == "perplexity"
    assert not ended.err


def test_set_changes_the_run_and_the_record(small, tmp_path):
    recipe = written(tmp_path, small)
    good("run", recipe, "-o", tmp_path / "out", "--set", "train.steps=3", "--set", "adapter.rank=2", "-q")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines if "step" in line) == 3
    assert all(value.shape[0] == 2 for name, value in weights(tmp_path / "out").items() if "lora_A" in name)
    assert "rank: 2" in (tmp_path / "out" / "recipe.yaml").read_text()


def test_the_same_recipe_gives_the_same_bits(done, tmp_path):
    folder, recipe = done
    good("run", recipe, "-o", tmp_path / "again", "-q")
    same_bits(weights(folder), weights(tmp_path / "again"))
    good("run", folder / "recipe.yaml", "-o", tmp_path / "third", "-q")
    same_bits(weights(folder), weights(tmp_path / "third"))
    assert (folder / "lock.json").read_text() == (tmp_path / "third" / "lock.json").read_text()


def test_overwrite_begins_anew(done):
    folder, recipe = done
    before = weights(folder)
    good("run", recipe, "-o", folder, "--overwrite", "-q", "--set", "train.seed=5")
    assert any(not torch.equal(before[name], value) for name, value in weights(folder).items())


def test_resume_without_a_checkpoint_begins_anew(small, tmp_path):
    recipe = written(tmp_path, small)
    good("run", recipe, "-o", tmp_path / "out", "--resume", "-q")
    assert (tmp_path / "out" / "evidence.json").is_file()


def test_an_interrupted_run_goes_on_to_the_same_bits(small, tmp_path):
    small["train"] |= {"steps": 150, "checkpoint_every": 50}
    recipe = written(tmp_path, small)
    process = started("run", recipe, "--output", tmp_path / "out", "--quiet")
    metrics, until = tmp_path / "out" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 4) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stopped = ended(process)
    assert stopped.status == 130, stopped.err
    assert "saved and can be resumed" in stopped.err and "Traceback" not in stopped.err
    assert not (tmp_path / "out" / "evidence.json").exists()
    [last] = sorted((tmp_path / "out" / "checkpoints").glob("step-*"))[-1:]
    assert 0 < int(last.name.removeprefix("step-")) < 150
    good("run", recipe, "--output", tmp_path / "out", "--resume", "--quiet")
    good("run", recipe, "--output", tmp_path / "whole", "--quiet")
    same_bits(weights(tmp_path / "out"), weights(tmp_path / "whole"))
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, 151))


def test_evaluate_repeats_the_evidence_from_anywhere(small, tmp_path, monkeypatch):
    """The recipe names its files beside itself; the run is evaluated from elsewhere."""
    small["data"] = {"train": "train.jsonl", "eval": "eval.jsonl"}
    recipe = written(tmp_path, small)
    folder = tmp_path / "runs" / "one"
    good("run", recipe, "-o", folder, "-q")
    monkeypatch.chdir("/")
    found = good("evaluate", folder, "--json").json()
    _, measures = evidence(folder)
    assert found["measures"][0]["after"] == pytest.approx(measures["perplexity"]["after"], abs=1e-6)
    change = f"evaluate=[{{task: exact_match, data: {tmp_path / 'eval.jsonl'}, limit: 4}}]"
    found = good("evaluate", folder, "--json", "--set", change).json()
    assert found["measures"][0]["name"] == "exact_match" and found["measures"][0]["n"] == 4


def test_evaluate_stops_when_the_model_changed(done):
    folder, _ = done
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    save_file({k: -8 * v for k, v in tensors.items()}, folder / "adapter" / "adapter_model.safetensors")
    refused = call("evaluate", folder)
    assert refused.status == 2 and "Traceback" not in refused.err


def test_a_merged_export_loads_in_transformers(done, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunewright.tuned import load

    folder, _ = done
    found = good("export", folder, "--output", tmp_path / "merged", "--json").json()
    assert found["check"]["kl"] < 1e-5 and found["check"]["top1_agreement"] == 1.0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged")("61: say blue -> ", return_tensors="pt")["input_ids"]
    ours = load(folder).assembly.policy.model.eval()
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, ours(ids).logits, atol=1e-4)
    assert "held-out loss" in (tmp_path / "merged" / "README.md").read_text()
    again = call("export", folder, "--output", tmp_path / "merged")
    assert again.status == 2 and "exists already" in again.err


def test_an_exported_adapter_loads_in_peft(done, tiny, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    from tunewright.tuned import load

    folder, _ = done
    good("export", folder, "--output", tmp_path / "adapter", "--form", "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ours = load(folder).assembly.policy.model.eval()
    ids = torch.randint(3, 97, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, ours(ids).logits, atol=1e-5)


def test_full_tuning_is_exported_merged_only(small, tmp_path):
    small["adapter"] = "full"
    small["optimizer"]["lr"] = 1e-3
    good("run", written(tmp_path, small), "-o", tmp_path / "out", "-q")
    good("export", tmp_path / "out", "-o", tmp_path / "merged")
    refused = call("export", tmp_path / "out", "-o", tmp_path / "adapter", "--form", "adapter")
    assert refused.status == 2 and "merged" in refused.err and not (tmp_path / "adapter").exists()


def test_an_adapter_is_continued(done, small, tmp_path):
    """The first run's adapter, merged into the weights, is where the second run begins."""
    folder, _ = done
    _, first = evidence(folder)
    small["model"] = {"path": small["model"], "adapter": str(folder / "adapter")}
    recipe = written(tmp_path, small, "second.yaml")
    good("run", recipe, "-o", tmp_path / "second", "-q")
    _, second = evidence(tmp_path / "second")
    assert second["perplexity"]["before"] == pytest.approx(first["perplexity"]["after"], abs=1e-4)
    assert second["perplexity"]["after"] < second["perplexity"]["before"]
    found = good("evaluate", tmp_path / "second", "--json").json()
    assert found["measures"][0]["after"] == pytest.approx(second["perplexity"]["after"], abs=1e-5)
    good("export", tmp_path / "second", "-o", tmp_path / "merged")
    # An adapter alone would be put on a base that lacks the first one.
    refused = call("export", tmp_path / "second", "-o", tmp_path / "alone", "--form", "adapter")
    assert refused.status == 2 and "model.adapter" in refused.err and not (tmp_path / "alone").exists()


def test_training_of_an_adapter_goes_on(done, small, tmp_path):
    """The first run's adapter is the start of the second run's, so that one adapter on the old base holds both."""
    folder, _ = done
    _, first = evidence(folder)
    earlier = tmp_path / "earlier"
    shutil.copytree(folder, earlier)
    small["model"] = {"path": small["model"], "adapter": str(earlier), "adapter_as": "start"}
    good("run", written(tmp_path, small, "on.yaml"), "-o", tmp_path / "on", "-q")
    _, second = evidence(tmp_path / "on")
    assert second["perplexity"]["before"] == pytest.approx(first["perplexity"]["after"], abs=1e-4)
    assert second["perplexity"]["after"] < second["perplexity"]["before"]
    shutil.move(earlier, tmp_path / "gone")
    found = good("evaluate", tmp_path / "on", "--json").json()
    assert found["measures"][0]["after"] == pytest.approx(second["perplexity"]["after"], abs=1e-5)
    good("export", tmp_path / "on", "-o", tmp_path / "alone", "--form", "adapter")
    small["model"]["adapter"] = str(tmp_path / "gone")
    small["adapter"] = {
        **(small["adapter"] if isinstance(small.get("adapter"), dict) else {}),
        "method": "lora",
        "rank": 3,
    }
    refused = call("run", written(tmp_path, small, "other.yaml"), "-o", tmp_path / "other", "-q")
    assert refused.status == 2 and "rank 3" in refused.err and "adapter_as: base" in refused.err


def test_an_adapter_saved_by_peft_is_continued(small, tiny, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    from tunewright.assembly import assemble
    from tunewright.recipe import Recipe

    base = AutoModelForCausalLM.from_pretrained(tiny)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    theirs = peft.get_peft_model(base, config).eval()
    theirs.save_pretrained(tmp_path / "peft")
    small["model"] = {"path": small["model"], "adapter": "peft"}
    ours = assemble(Recipe.read(written(tmp_path, small))).policy.model.eval()
    ids = torch.randint(3, 97, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, ours(ids).logits, atol=1e-5)


def test_chat_answers_with_both_models(done):
    folder, _ = done
    process = started("chat", folder, "--max-new-tokens", "8", stdin=-1)
    out, err = process.communicate("61: say blue -> \n\n", timeout=120)
    assert process.returncode == 0, err
    assert "base" in out and "tuned" in out and "Traceback" not in err


def test_chat_ends_with_its_input(done):
    folder, _ = done
    process = started("chat", folder, stdin=-1)
    _, err = process.communicate("", timeout=120)
    assert process.returncode == 0, err


def test_plan_writes_nothing(small, tmp_path):
    recipe = written(tmp_path, small)
    before = sorted(tmp_path.rglob("*"))
    found = good("plan", recipe, "--json").json()
    assert found["steps"] == 6 and found["fits"] is True and found["peak_memory_bytes"] > 1e8
    assert 0 < found["trained_parameters"] < found["all_parameters"]
    assert "fits" in good("plan", recipe).out
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_teach_plans_how_far_they_are_off(small, tmp_path, monkeypatch):
    """A run is recorded unless it keeps or predicts nothing; of five, the plan makes intervals and the doctor quantiles."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    recipe = written(tmp_path, {**small, "evaluate": []})
    first = good("plan", recipe, "--price-per-hour", 2, "--json").json()
    assert first["recorded"] == 0 and first["seconds_range"] is None
    assert first["joules"] == pytest.approx(first["watts"] * first["seconds"])
    assert first["money"] == pytest.approx(first["seconds"] / 1800)
    good("run", recipe, "--output", tmp_path / "kept", "--set", "data.cache=false")
    good("run", recipe, "--output", tmp_path / "untold", "--set", "train.rehearsal=false")
    recorded = tmp_path / "cache" / "predictions.jsonl"
    assert not recorded.exists()
    good("run", recipe, "--output", tmp_path / "out")
    [line] = recorded.read_text().splitlines()
    plan, told = evidence(tmp_path / "out")[0]["plan"], json.loads(line)
    assert all(told[f"{which}_seconds"] == plan[f"{which}_seconds"] for which in ("predicted", "actual"))
    assert all(told[f"{which}_bytes"] == plan[f"{which}_memory_bytes"] for which in ("predicted", "actual"))
    recorded.write_text("".join(json.dumps({**told, "actual_seconds": 2.0 + n}) + "\n" for n in range(5)))
    found = good("plan", recipe, "--json").json()
    assert found["recorded"] == 5 and 0 < found["seconds_range"][0] < found["seconds_range"][1]
    assert found["joules_range"][1] == pytest.approx(found["watts"] * found["seconds_range"][1])
    assert found["money"] is None is found["money_range"]
    assert "8 of 10 such runs, by 5 runs recorded here" in good("plan", recipe).out
    told = good("doctor", "--json").json()["actual against planned"]
    assert told["runs"] == 5 and told["time_ratio_10"] <= told["time_ratio"] <= told["time_ratio_90"]


@pytest.mark.slow
def test_a_report_tells_the_memory_that_a_run_of_many_shapes_took(tmp_path):
    """In a process of its own, whose peak is that of the run; micro-batches have some thirty shapes here."""
    recipe = written(tmp_path, {
        "model": "nano",
        "data": {
            "train": {"path": "nano:word_problems/train", "limit": 800},
            "eval": {"path": "nano:word_problems/test", "limit": 60},
        },
        "train": {"steps": 30, "tokens_per_step": 1024, "trackers": []},
        "evaluate": [],
    })  # fmt: skip
    run = ended(started("run", recipe, "--output", tmp_path / "out"), 300)
    assert run.status == 0, run.err
    plan = json.loads((tmp_path / "out" / "evidence.json").read_text())["plan"]
    assert plan["predicted_memory_bytes"] == pytest.approx(plan["actual_memory_bytes"], rel=0.15)


@pytest.mark.parametrize("query", [[], ["lora"]])
def test_methods_as_json(query):
    found = good("methods", *query, "--json").json()
    for method in found:
        assert {"kind", "name", "summary", "paper", "fields", "needs"} <= set(method)
        assert method["paper"] is None or {"card", "title", "arxiv"} == set(method["paper"])
        assert all({"name", "type", "default", "help"} == set(field) for field in method["fields"])
        assert isinstance(method["needs"], list) and method["summary"]
    names = {(method["kind"], method["name"]) for method in found}
    assert names == {("adapter", "lora")} if query else {("adapter", "full"), ("objective", "sft")} <= names


def test_methods_in_words():
    everything = good("methods").out
    assert all(name in everything for name in ("lora", "adamw", "cosine", "sft", "rouge_l"))
    one = good("methods", "lora").out
    assert "alpha / r" in one and "rank" in one and "FieldInfo" not in one


def test_schema(small):
    found = good("schema").json()
    assert set(found["required"]) == {"model", "data"} and found["additionalProperties"] is False
    try:
        import jsonschema
    except ImportError:
        assert {"model", "data", "adapter", "objective", "optimizer", "schedule", "train", "evaluate"} <= set(
            found["properties"]
        )
        return
    jsonschema.validate(small, found)
    for place, value in {"adapter": "lroa", "train": {"stps": 1}, "modle": "x"}.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**small, place: value}, found)


def test_doctor():
    found = good("doctor", "--json").json()
    assert found["machine"]["cores"] >= 1 and found["versions"]["torch"]
    assert found["a run would use"]["device"] in ("cpu", "cuda")
    assert "precision" in good("doctor").out


def test_preview_and_check(small, tmp_path):
    recipe = written(tmp_path, small)
    plain = good("preview", recipe, "--plain").out
    assert "1    |r|e|d|</s>|" in plain and "18 tokens, 4 with loss" in plain
    assert "train.jsonl" in good("preview", recipe, "-n", "1").out
    found = good("data", "check", recipe, "--json").json()
    assert found["ok"] and [source["rows"] for source in found["sources"]] == [60, 12]
    assert "60 rows, all fine" in good("data", "check", recipe).out


@pytest.mark.parametrize(
    "command",
    ["", "run", "demo", "plan", "preview", "data", "data check", "evaluate", "chat", "export", "pretrain", "methods",
     "schema", "doctor", "bench"],
)  # fmt: skip
def test_help(command):
    assert "Usage" in good(*command.split(), "--help").out


def test_pretrain_writes_a_checkpoint(small, tmp_path):
    from transformers import AutoModelForCausalLM

    small |= {"model": {"path": small["model"], "from_scratch": True}, "adapter": "full"}
    small["optimizer"]["lr"] = 3e-3
    recipe = written(tmp_path, small)
    good("pretrain", recipe, "-o", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    assert all(torch.isfinite(p).all() for p in model.parameters())
    refused = call("pretrain", recipe, "-o", tmp_path / "other", "--set", "adapter=lora")
    assert refused.status == 2 and "every weight" in refused.err and not (tmp_path / "other").exists()


def test_python(small, tmp_path):
    import tunewright as tw

    run = tw.tune(**small, output=tmp_path / "out", quiet=True)
    assert run.verdict == evidence(tmp_path / "out")[0]["verdict"]
    tuned = tw.load(tmp_path / "out")
    base, answer = tuned.answer("61: say blue -> ")
    assert isinstance(base, str) and isinstance(answer, str)
    [measure, *_] = tw.evaluate(tmp_path / "out")
    assert measure.name == "perplexity" and measure.finding == "better"
    [only, *_] = tw.evaluate(tmp_path / "out", ["exact_match"])
    assert only.name == "exact_match"


def test_one_training_row(small, tmp_path):
    small["data"]["train"] = str(rows_file(tmp_path / "one.jsonl", pairs(1)))
    good("run", written(tmp_path, small), "-o", tmp_path / "out")
    assert evidence(tmp_path / "out")[0]["cost"]["tokens"] > 0


def test_retention_without_text_is_left_out_with_a_warning(small, tmp_path):
    small["evaluate"] = ["perplexity", "retention"]
    good("run", written(tmp_path, small), "-o", tmp_path / "out")
    found, measures = evidence(tmp_path / "out")
    assert "retention" not in measures and any("retention" in warning for warning in found["data"]["warnings"])


def test_nothing_measured_still_costs(small, tmp_path):
    small["evaluate"] = []
    good("run", written(tmp_path, small), "-o", tmp_path / "out")
    found, measures = evidence(tmp_path / "out")
    assert not measures and found["cost"]["tokens"] > 0 and found["cost"]["tokens_per_second"] > 0
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize("budget", [{"tokens": 900}, {"epochs": 0.5}, {"epochs": 2}])
def test_other_budgets(budget, small, tmp_path):
    del small["train"]["steps"]
    small["train"] |= budget
    good("run", written(tmp_path, small), "-o", tmp_path / "out")
    tokens = evidence(tmp_path / "out")[0]["cost"]["tokens"]
    expected = budget.get("tokens") or budget["epochs"] * 1262
    assert abs(tokens - expected) <= 256


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_evaluations_on_the_way(precision, small, tmp_path):
    small["train"] |= {
        "evaluate_every": 2, "evaluate_limit": 4, "keep_best": "perplexity", "early_stop": {"patience": 2},
        "precision": precision,
    }  # fmt: skip
    good("run", written(tmp_path, small), "-o", tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "evaluation" in line] == [2, 4, 6]
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert os.listdir(tmp_path / "out" / "checkpoints" / "best")
