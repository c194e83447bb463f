"""Going on with a run from its folder alone, and proving that this is the same run."""

import json
import signal
import time

import pytest
import torch
from command_line import call, ended, good, pairs, rows_file, started, written
from safetensors.torch import load_file

from tunewright import verify
from tunewright.train.checkpoint import unpack

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

DAWDLING = """
import os, time
from typing import ClassVar
from tunewright.hooks import Hook
from tunewright.optimize.schedules.base import Schedule

class Waiting(Hook):
    def before_step(self, loop):
        if loop.state.step == 2 and os.environ["RANK"] == "1":
            self.dawdle()

    def dawdle(self):
        time.sleep(5)

class Dawdling(Schedule):
    \"\"\"Rank 1 sleeps in the third step.\"\"\"

    name: ClassVar[str] = "dawdling"

    def after(self, step, total):
        return 1.0

    def hook(self):
        return Waiting()
"""


@pytest.fixture
def interrupted(small, tmp_path, monkeypatch):
    """The folder of a run, started from a recipe with relative paths, that was interrupted; and its recipe."""
    rows_file(tmp_path / "own.jsonl", pairs(60))
    small["train"] |= {"steps": 150, "checkpoint_every": 50}
    recipe = written(tmp_path, small | {"data": {"train": "own.jsonl"}})
    process = started("run", recipe, "--output", tmp_path / "out", "--quiet")
    metrics, until = tmp_path / "out" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 4) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stopped = ended(process)
    assert stopped.status == 130, stopped.err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "out", recipe


def test_a_run_goes_on_from_its_folder_alone(interrupted, tmp_path):
    folder, recipe = interrupted
    found = good("resume", folder, "--verify")
    assert found.out.endswith("equal\n") and "trained tensors" in found.out and "Two steps in one go" in found.err
    found = good("resume", folder, "--verify", "--json")
    assert found.json()["equal"] is True and found.json()["difference"] is None and not found.err
    assert not (folder / "evidence.json").exists()
    found = good("resume", folder, "--json")
    assert found.json()["output"] == str(folder) and (folder / "report.html").is_file()
    good("run", recipe, "--output", tmp_path / "whole", "--quiet")
    one, other = (load_file(at / "adapter" / "adapter_model.safetensors") for at in (folder, tmp_path / "whole"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 151))
    again = call("resume", folder)
    assert again.status == 2 and "the run is finished: no step is left" in again.err


def test_what_did_not_come_back_is_a_fault(interrupted, monkeypatch):
    folder, _ = interrupted

    def load(loop, place):
        unpack(loop, place)
        if folder not in place.parents:
            next(iter(loop.attached.trained().values())).data.view(-1)[0] += 1.0

    monkeypatch.setattr(verify, "unpack", load)
    found = call("resume", folder, "--verify", "--quiet")
    assert found.status == 1 and "not the same run. trained tensors: '" in found.err and "equal\n" not in found.out
    assert "as loaded back: 1 of" in found.err and "by up to 1." in found.err and "Traceback" not in found.err
    found = call("resume", folder, "--verify", "--json")
    assert found.status == 1 and found.json()["equal"] is False and "1 of" in found.json()["difference"]


@pytest.mark.parametrize("options", [[], ["--verify"]])
def test_a_folder_that_is_no_run(options, tmp_path):
    found = call("resume", tmp_path, *options)
    assert found.status == 2 and "not the folder of a run; expected recipe.yaml" in found.err


@pytest.mark.slow
def test_two_processes_say_where_they_wait_and_are_proven_to_go_on(small, tmp_path):
    (tmp_path / "own.py").write_text(DAWDLING)
    small["train"] |= {"micro_batch_tokens": 64, "watchdog": 1.5}
    recipe = written(tmp_path, small | {"use": [str(tmp_path / "own.py")], "schedule": "dawdling"})
    pair = ended(started("run", recipe, "-o", tmp_path / "two", "-q", launcher=LAUNCHER))
    assert pair.status == 0, pair.err[-3000:]
    waiting, dawdling = (pair.err.index(f"rank {rank} of 2: step {step} has") for rank, step in ((0, 4), (1, 3)))
    assert "in dawdle" in pair.err[dawdling:] and "in sum_gradients" in pair.err[waiting:]
    small["train"]["watchdog"] = 0
    found = ended(started("resume", tmp_path / "two", "--verify", "--json", launcher=LAUNCHER))
    assert found.status == 0, found.err[-3000:]
    assert found.json()["equal"] is True
