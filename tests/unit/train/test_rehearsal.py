"""What is tried before step 1: it changes nothing, and a run that cannot finish is told so."""

import pytest
import torch

from tunewright.errors import BadInput, NotFinite
from tunewright.testing.runs import tiny_loop
from tunewright.train import rehearsal
from tunewright.train.rehearsal import rehearse


def test_nothing_is_left_of_it(tmp_path):
    tried, plain = tiny_loop(), tiny_loop()
    found = rehearse(tried, tmp_path / "trial")
    assert found.peak_memory_bytes > 0 and found.seconds_per_token > 0
    assert not any(tmp_path.iterdir()) and tried.state.step == 0
    for loop in (tried, plain):
        loop.run()
    one, other = tried.attached.state(), plain.attached.state()
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_told_though_none_is_left_to_put_things_back(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(rehearsal, "_largest_step", fail)
    monkeypatch.setattr(rehearsal, "unpack", fail)
    with pytest.raises(BadInput, match="does not fit into memory"):
        rehearse(tiny_loop(), tmp_path / "trial")
    assert not any(tmp_path.iterdir())


def test_another_fault_is_told_as_it_is(tmp_path):
    def fail():
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        rehearse(tiny_loop(), tmp_path / "trial", [fail])


def test_records_without_a_finite_loss_stop_the_run(tmp_path):
    loop = tiny_loop()
    with torch.no_grad():
        next(iter(loop.policy.model.parameters())).fill_(float("nan"))
    with pytest.raises(NotFinite):
        rehearse(loop, tmp_path / "trial")
