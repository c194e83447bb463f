"""Options of a run that act on the process or need packages that may be missing."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from accelerate import PartialState

from tunewright import assembly, pipeline
from tunewright.errors import BadInput
from tunewright.output import as_yaml
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny_folder
from tunewright.testing.runs import Steps


@pytest.fixture
def keys(tmp_path):
    """A tiny recipe as plain values."""
    rows = "".join(f'{{"prompt": "{n} + 1 =", "completion": " {n + 1}"}}\n' for n in range(24))
    (tmp_path / "rows.jsonl").write_text(rows)
    return {
        "model": str(tiny_folder(tmp_path / "model")),
        "data": {"train": str(tmp_path / "rows.jsonl"), "cache": False},
        "train": {"steps": 2, "tokens_per_step": 128, "precision": "fp32", "trackers": [], "rehearsal": False},
        "evaluate": [],
    }


@pytest.mark.parametrize("count", [1, 2])
def test_threads(count, keys):
    before = torch.get_num_threads()
    try:
        keys["train"]["threads"] = count
        assembly.assemble(Recipe.of(**keys))
        assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


def test_a_rate_for_parameters_there_are_not_is_refused_before_anything_is_measured(keys, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(as_yaml({**keys, "optimizer": {"method": "adamw", "rates": {"*.upp": 16.0}}}))
    with pytest.raises(
        BadInput, match=r"recipe.yaml:\d+: field 'optimizer.rates': no trained .* such as 'model.layers"
    ):
        assembly.assemble(Recipe.read(file))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_how_to_install_it(name, keys, tmp_path):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    keys["train"]["trackers"] = [name]
    with pytest.raises(BadInput, match=rf"'{name}' is not installed.*pip install 'tunewright\[{name}\]'"):
        pipeline.run(Recipe.of(**keys), tmp_path / "run", quiet=True)


def test_mlflow_is_given_the_settings_and_every_step(keys, tmp_path, monkeypatch):
    seen = {"experiments": [], "runs": [], "params": {}, "metrics": []}
    client = pretended(
        monkeypatch, "mlflow",
        search_experiments=lambda filter_string: [],
        create_experiment=lambda name, artifact_location, tags: seen["experiments"].append(name),
        start_run=lambda **given: seen["runs"].append(given["run_name"]),
        log_params=seen["params"].update,
        log_metrics=lambda values, step: seen["metrics"].append((step, values)),
        end_run=lambda: seen["runs"].append("ended"),
    )  # fmt: skip
    client.utils = SimpleNamespace(validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100))
    keys["train"]["trackers"] = ["mlflow"]
    pipeline.run(Recipe.of(**keys), tmp_path / "run", quiet=True)
    assert seen["experiments"] == ["tunewright"] and seen["runs"] == ["run", "ended"]
    assert seen["params"]["train.steps"] == 2 and seen["params"]["adapter.method"] == "lora"
    assert [step for step, _ in seen["metrics"]] == [1, 2] and "loss" in seen["metrics"][0][1]


def test_wandb_is_given_the_settings_and_every_step(keys, tmp_path, monkeypatch):
    seen = {"inits": [], "settings": {}, "metrics": []}
    run = SimpleNamespace(
        log=lambda values, step: seen["metrics"].append((step, values)), finish=lambda: seen["inits"].append("finished")
    )
    pretended(
        monkeypatch, "wandb",
        init=lambda **given: seen["inits"].append(given) or run,
        config=SimpleNamespace(update=lambda values, **options: seen["settings"].update(values)),
    )  # fmt: skip
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    keys["train"]["trackers"] = ["wandb"]
    pipeline.run(Recipe.of(**keys), tmp_path / "run", quiet=True)
    assert seen["inits"] == [{"project": "mine", "name": "run", "dir": str(tmp_path / "run")}, "finished"]
    assert seen["settings"]["train.steps"] == 2 and [step for step, _ in seen["metrics"]] == [1, 2]


def pretended(monkeypatch, name, **members):
    """A module of that name with these members, in the place of a tracker's client, which may not be installed."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    # As in a process of its own: no earlier use has set accelerate up.
    monkeypatch.setattr(PartialState, "_shared_state", {})
    return module


@pytest.mark.slow
def test_compiled_model_trains_to_the_same_losses(keys, tmp_path):
    from torch._dynamo.utils import counters

    losses = []
    for compiled in (False, True):
        keys["train"]["compile"] = compiled
        counters.clear()
        loop = pipeline.build_loop(assembly.assemble(Recipe.of(**keys)), tmp_path, record=False)
        steps = Steps()
        loop.hooks = [steps]
        loop.run()
        assert bool(counters["stats"]["unique_graphs"]) is compiled
        losses.append([step.loss for step in steps.done])
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
