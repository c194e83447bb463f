"""Prepared data stays within its limit: the longest unused goes first, what is in use stays."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from data_processes import use_until

from tunewright import machine
from tunewright.data import cache, pruning
from tunewright.errors import BadInput

MB = 2**20


@pytest.fixture(autouse=True)
def limit_of_three_megabytes(monkeypatch):
    monkeypatch.setenv(pruning.VARIABLE, str(3 / 1024))


def made(root, name):
    """A data set of a megabyte that this process no longer uses."""

    def make(folder):
        folder.mkdir()
        (folder / "ids.npy").write_bytes(bytes(MB))

    with cache.kept(name, make, root):
        pass
    pruning._held.pop(root / name).close()


def names(root):
    return {entry.folder.name for entry in pruning.entries(root)}


def aged(root, **seconds):
    for name, age in seconds.items():
        os.utime(root / name, (1e9 - age, 1e9 - age))


def test_the_longest_unused_goes_first(tmp_path):
    for name in "abc":
        made(tmp_path, name)
    aged(tmp_path, a=100, b=300, c=200)
    made(tmp_path, "b")  # found again, so used now
    assert names(tmp_path) == {"a", "b", "c"}
    made(tmp_path, "d")
    assert names(tmp_path) == {"a", "b", "d"}


def test_what_this_process_uses_stays_even_beyond_the_limit(tmp_path):
    def make(folder):
        folder.mkdir()
        (folder / "ids.npy").write_bytes(bytes(2 * MB))

    with cache.kept("first", make, tmp_path):
        pass
    made(tmp_path, "second")
    made(tmp_path, "third")
    with cache.kept("fourth", make, tmp_path):
        assert names(tmp_path) == {"first", "fourth"}


def test_what_another_process_uses_stays_until_it_ends(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=use_until, args=(tmp_path, "a", ready, end))
    other.start()
    try:
        assert ready.wait(60)
        for name in "bcd":
            made(tmp_path, name)
        aged(tmp_path, a=1000)
        made(tmp_path, "e")
        assert "a" in names(tmp_path)
    finally:
        end.set()
        other.join(60)
    aged(tmp_path, a=1000)
    made(tmp_path, "f")
    assert "a" not in names(tmp_path)


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".name-x1y2"
    (left / "data").mkdir(parents=True)
    made(tmp_path, "a")
    assert not left.exists()


def test_doctor_tells_size_and_limit(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    made(cache.root(), "a")
    told = machine.prepared_data()
    assert told == {"folder": str(tmp_path / "data"), "data_sets": 1, "bytes": MB, "limit_bytes": 3 * MB}


def test_a_limit_that_is_no_number(monkeypatch):
    monkeypatch.setenv(pruning.VARIABLE, "lots")
    with pytest.raises(BadInput, match=r"\$TUNEWRIGHT_CACHE_GB.*found 'lots', expected gigabytes"):
        pruning.limit()


def test_the_limit_without_the_variable(monkeypatch):
    monkeypatch.delenv(pruning.VARIABLE)
    assert pruning.limit() == 20 * 2**30
