"""Checkpoints: whole or not at all, and back to the same bits."""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tunewright import catalog
from tunewright.adapters import Full, LoRA
from tunewright.errors import BadInput, Interrupted
from tunewright.hooks import Hook
from tunewright.optimize.optimizers import SGD, AdamW
from tunewright.testing.optimizers import assert_same_place
from tunewright.testing.runs import tiny_loop
from tunewright.train import checkpoint
from tunewright.train.checkpoint import Checkpoints, latest, pack, read_folder, unpack, verify, write_folder


@pytest.fixture
def whole(tmp_path):
    """A checkpoint of the second step, and its folder."""
    loop = tiny_loop(steps=6)
    loop.advance(2)
    write_folder(tmp_path / "step-00000002", *pack(loop))
    return tmp_path / "step-00000002"


@pytest.mark.parametrize("optimizer", catalog.names("optimizer"))
@pytest.mark.parametrize("adapter", [LoRA(rank=4, dropout=0.3, train_modules=("norm",)), Full()], ids=["lora", "full"])
def test_resuming_equals_not_stopping(adapter, optimizer, tmp_path):
    parts = {"adapter": adapter, "optimizer": catalog.find("optimizer", optimizer)(lr=1e-2)}
    straight, first, second = (tiny_loop(parts, steps=6) for _ in range(3))
    straight.run()
    first.hooks = [Checkpoints(tmp_path, every=2, keep=9)]
    first.advance(5)
    found = latest(tmp_path)
    assert found.name == "step-00000004"
    unpack(second, found)
    second.run()
    assert_same_place(straight, second)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_optimizer_without_tensors_has_a_checkpoint_too(momentum, tmp_path):
    one, other = (tiny_loop({"optimizer": SGD(lr=0.1, momentum=momentum)}, steps=4) for _ in range(2))
    one.advance(2)
    write_folder(tmp_path / "c", *pack(one))
    unpack(other, tmp_path / "c")
    assert_same_place(one, other)


def test_it_holds_what_it_says(whole):
    names = sorted(file.name for file in whole.iterdir())
    assert names == [
        "manifest.json",
        "optimizer.safetensors",
        "random.safetensors",
        "state.json",
        "trained.safetensors",
    ]
    assert set(json.loads((whole / "manifest.json").read_text())) == set(names) - {"manifest.json"}
    tensors, described = read_folder(whole)
    assert described["state"]["step"] == 2 and set(tensors) == {"trained", "optimizer", "random"}


def flip(file):
    bits = bytearray(file.read_bytes())
    bits[len(bits) // 2] ^= 1
    file.write_bytes(bits)


DAMAGE = {
    "a flipped bit in the weights": lambda c: flip(c / "trained.safetensors"),
    "a flipped bit in the optimizer": lambda c: flip(c / "optimizer.safetensors"),
    "a flipped bit in the state": lambda c: flip(c / "state.json"),
    "a file cut short": lambda c: (c / "trained.safetensors").write_bytes((c / "trained.safetensors").read_bytes()[:99]),
    "a file missing": lambda c: (c / "random.safetensors").unlink(),
    "no manifest": lambda c: (c / "manifest.json").unlink(),
    "an empty manifest": lambda c: (c / "manifest.json").write_text("{}"),
    "a manifest that is a list": lambda c: (c / "manifest.json").write_text("[]"),
    "half a manifest": lambda c: (c / "manifest.json").write_text('{"state.json": "ab'),
    "a manifest of noise": lambda c: (c / "manifest.json").write_bytes(b"\xff\x00"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_refused_and_passed_over(damage, whole):
    loop = tiny_loop(steps=6)
    before = [p.clone() for p in loop.trained]
    older = whole.with_name("step-00000001")
    shutil.copytree(whole, older)
    DAMAGE[damage](whole)
    with pytest.raises(BadInput, match="checkpoint"):
        unpack(loop, whole)
    assert loop.state.step == 0 and all(torch.equal(a, b) for a, b in zip(before, loop.trained, strict=True))
    assert latest(whole.parent) == older


def test_of_another_adapter_it_is_refused(whole):
    with pytest.raises(BadInput, match="does not fit"):
        unpack(tiny_loop({"adapter": LoRA(rank=2)}, steps=6), whole)


def test_the_latest_before_a_step(tmp_path):
    loop = tiny_loop(steps=6, hooks=[Checkpoints(tmp_path, every=2, keep=9)])
    loop.run()
    shutil.copytree(tmp_path / "step-00000004", tmp_path / "step-copy")
    assert [latest(tmp_path, before).name for before in (6, 5, 4)] == ["step-copy", "step-copy", "step-00000002"]
    assert latest(tmp_path, 2) is None


def test_without_any_there_is_no_latest(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "absent") is None


@pytest.mark.parametrize("moment", ["save_file", "_synchronise", "_hash", "verify"])
def test_a_writer_that_dies_leaves_nothing_that_looks_whole(moment, tmp_path, monkeypatch):
    class Died(BaseException):
        pass

    loop = tiny_loop(steps=6)
    loop.advance(1)
    write_folder(tmp_path / "step-00000001", *pack(loop))
    loop.advance(1)
    real, calls = getattr(checkpoint, moment), []

    def die(*args):
        calls.append(args)
        if len(calls) > 1 or moment == "verify":
            raise Died
        return real(*args)

    monkeypatch.setattr(checkpoint, moment, die)
    with pytest.raises(Died):
        write_folder(tmp_path / "step-00000002", *pack(loop))
    monkeypatch.undo()
    assert latest(tmp_path).name == "step-00000001"
    write_folder(tmp_path / "step-00000002", *pack(loop))
    assert latest(tmp_path).name == "step-00000002"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_the_newest_are_kept(tmp_path):
    loop = tiny_loop(steps=6, hooks=[Checkpoints(tmp_path, every=1, keep=2)])
    loop.run()
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["step-00000005", "step-00000006"]


def test_a_stopped_run_is_saved_where_it_stands(tmp_path):
    class Stop(Hook):
        def after_step(self, loop, step):
            loop.interrupted = step.step == 3

    loop = tiny_loop(steps=6, hooks=[Stop(), Checkpoints(tmp_path, every=100, keep=2)])
    with pytest.raises(Interrupted):
        loop.run()
    again = tiny_loop(steps=6)
    unpack(again, latest(tmp_path))
    assert_same_place(loop, again)


def test_hooks_are_remembered(tmp_path):
    class Counter(Hook):
        def __init__(self):
            self.count = 0

        def after_step(self, loop, step):
            self.count += 1

        def state(self):
            return {"count": self.count}

        def load_state(self, state):
            self.count = state.get("count", 0)

    one, other = (tiny_loop(steps=4, hooks=[Counter()]) for _ in range(2))
    one.advance(3)
    write_folder(tmp_path / "c", *pack(one))
    unpack(other, tmp_path / "c")
    assert other.hooks[0].count == 3


def test_going_back_to_an_earlier_one_forgets_the_optimizer(tmp_path):
    loop, fresh = (tiny_loop({"optimizer": AdamW(lr=1e-2)}, steps=4) for _ in range(2))
    write_folder(tmp_path / "c", *pack(loop))
    loop.advance(3)
    unpack(loop, tmp_path / "c")
    assert_same_place(fresh, loop)


@contextmanager
def small_disk(size):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_loses_nothing():
    loop = tiny_loop({"adapter": LoRA(rank=4, train_modules=("embed_tokens", "lm_head"))}, steps=4)
    loop.advance(1)
    tensors, described = pack(loop)
    need = sum(value.nbytes for group in tensors.values() for value in group.values())
    with small_disk(f"{int(need * 1.6) // 1024}k") as disk:
        write_folder(disk / "step-00000001", tensors, described)
        loop.advance(1)
        with pytest.raises(BadInput, match=r"cannot be written.*Free space") as caught:
            write_folder(disk / "step-00000002", *pack(loop))
        assert caught.value.status == 2
        assert latest(disk).name == "step-00000001"
        verify(disk / "step-00000001")
        assert [item.name for item in disk.iterdir()] == ["step-00000001"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written: Not a directory"):
        write_folder(tmp_path / "file" / "step", {"a": {"x": torch.ones(1)}}, {})


def test_two_hooks_of_one_class_keep_their_own_state(tmp_path):
    class Counting(Hook):
        def __init__(self, value=0):
            self.value = value

        def state(self):
            return {"value": self.value}

        def load_state(self, state):
            self.value = state["value"]

    loop = tiny_loop(hooks=[Counting(1), Counting(2)])
    write_folder(tmp_path / "kept", *pack(loop))
    other = tiny_loop(hooks=[Hook(), Counting(), Counting()])
    unpack(other, tmp_path / "kept")
    assert [hook.value for hook in other.hooks[1:]] == [1, 2]
