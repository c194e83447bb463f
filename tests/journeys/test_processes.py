"""Two processes under torch's launcher give the losses of one, sharded too."""

import json

import pytest
from command_line import ended, evidence, good, started, written

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
