"""Two processes under torch's launcher give the losses of one, sharded too."""

import json
import signal
import time

import psutil
import pytest
import torch
from command_line import ended, evidence, good, started, written
from safetensors.torch import load_file

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_two_processes_equal_one(adapter, shard, small, tmp_path):
    small["adapter"] = adapter
    small["train"] |= {"micro_batch_tokens": 64, "steps": 4}
    recipe = written(tmp_path, small)
    good("run", recipe, "-o", tmp_path / "one", "-q")
    pair = ended(
        started(
            "run", recipe, "-o", tmp_path / "two", "-q", "--set", f"train.shard={str(shard).lower()}", launcher=LAUNCHER
        )
    )  # fmt: skip
    assert pair.status == 0, pair.err[-3000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    one, two = (evidence(tmp_path / name)[1]["perplexity"] for name in ("one", "two"))
    assert two["after"] == pytest.approx(one["after"], abs=1e-4)
    good("evaluate", tmp_path / "two")


@pytest.mark.slow
def test_interrupted_processes_stop_together_and_go_on_to_the_same_bits(small, tmp_path):
    """A stop that only one of the two hears of ends both after the same step, saved."""
    small["train"] |= {"steps": 60, "checkpoint_every": 50, "micro_batch_tokens": 64}
    recipe, folder = written(tmp_path, small), tmp_path / "two"
    pair = started("run", recipe, "-o", folder, "-q", launcher=LAUNCHER)
    metrics, until = folder / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 4) and time.monotonic() < until:
        time.sleep(0.02)
    [*workers] = psutil.Process(pair.pid).children()
    workers[-1].send_signal(signal.SIGINT)
    stopped = ended(pair)
    assert stopped.status != 0 and not (folder / "evidence.json").exists()
    [last] = sorted((folder / "checkpoints").glob("step-*"))[-1:]
    assert 0 < int(last.name.removeprefix("step-")) < 60
    on = ended(started("run", recipe, "-o", folder, "-q", "--resume", launcher=LAUNCHER))
    assert on.status == 0, on.err[-3000:]
    whole = ended(started("run", recipe, "-o", tmp_path / "whole", "-q", launcher=LAUNCHER))
    assert whole.status == 0, whole.err[-3000:]
    weights = [load_file(at / "adapter" / "adapter_model.safetensors") for at in (folder, tmp_path / "whole")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
