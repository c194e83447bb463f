"""Options of a run that act on the process or need packages that may be missing."""

import importlib.util

import pytest
import torch

from tunewright import assembly, pipeline
from tunewright.errors import BadInput
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


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_how_to_install_it(name, keys, tmp_path):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    keys["train"]["trackers"] = [name]
    with pytest.raises(BadInput, match=rf"'{name}' is not installed.*pip install 'tunewright\[{name}\]'"):
        pipeline.run(Recipe.of(**keys), tmp_path / "run", quiet=True)


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
