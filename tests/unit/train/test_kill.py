"""A run killed at any moment goes on to the same bits."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunewright.train.checkpoint import latest

SCRIPT = Path(__file__).with_name("endless.py")
STEPS, KILLS = 120, 22


def started(folder):
    return subprocess.Popen([sys.executable, SCRIPT, folder, str(STEPS)], stdout=subprocess.PIPE, text=True)


def killed_while_writing(run, folder):
    """Kills the run the moment a folder aside appears; whether it was seen."""
    until = time.monotonic() + 2
    while time.monotonic() < until and run.poll() is None:
        if any((folder / "checkpoints").glob(".*.writing")):
            run.kill()
            return True
    run.kill()
    return False


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    chance = random.Random(0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    assert started(whole).wait() == 0
    kills = during_writing = 0
    while kills < KILLS:
        run = started(broken)
        for _ in range(chance.randint(1, 3)):
            run.stdout.readline()
        if kills % 2:
            during_writing += killed_while_writing(run, broken)
        else:
            time.sleep(chance.uniform(0.0, 0.05))
            run.kill()
        kills += run.wait() != 0
        assert not (broken / "final.safetensors").exists(), "the run ended before it was killed often enough"
        found = latest(broken / "checkpoints")
        assert found is None or not found.name.startswith(".")
    assert during_writing >= 5
    assert started(broken).wait() == 0
    assert (broken / "final.safetensors").read_bytes() == (whole / "final.safetensors").read_bytes()
