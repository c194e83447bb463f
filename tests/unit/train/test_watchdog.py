"""Where a step does not end, every process says where it stands; where steps end in time, nothing is said."""

import ctypes
import time
from types import SimpleNamespace

import pytest
import torch

from tunewright import pipeline
from tunewright.hooks import Hook
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny_folder
from tunewright.testing.runs import tiny_loop
from tunewright.train.loop import State
from tunewright.train.processes import World
from tunewright.train.watchdog import Watchdog, watched

LINE = "tunewright: rank 0 of 1: step 2 has not ended"


class Dawdling(Hook):
    """Is slow in the second step, in one of two ways."""

    def __init__(self, how="dawdle"):
        self.how = getattr(self, how)

    def before_step(self, loop):
        if loop.state.step == 1:
            self.how()

    def dawdle(self):
        time.sleep(0.8)

    def hold(self):
        """Keeps the interpreter all the time."""
        ctypes.PyDLL(None).usleep(800_000)

    def fail(self):
        raise ArithmeticError


@pytest.fixture
def keys(tmp_path):
    rows = "".join(f'{{"prompt": "{n} + 1 =", "completion": " {n + 1}"}}\n' for n in range(24))
    (tmp_path / "rows.jsonl").write_text(rows)
    return {
        "model": str(tiny_folder(tmp_path / "model")),
        "data": {"train": str(tmp_path / "rows.jsonl"), "cache": False},
        "train": {"steps": 3, "tokens_per_step": 128, "precision": "fp32", "trackers": [], "rehearsal": False},
        "evaluate": [],
    }


@pytest.mark.parametrize(("seconds", "told"), [(0.4, True), (0, False), (None, False)])
def test_the_recipe_says_how_long_a_step_may_take(seconds, told, keys, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(pipeline, "_acting", lambda recipe, attached: [Dawdling()])
    keys["train"]["watchdog"] = seconds
    pipeline.run(Recipe.of(**keys), tmp_path / "run", quiet=True)
    time.sleep(0.8)
    said = capfd.readouterr().err
    if not told:
        assert not said
        return
    # On a busy machine another step may take that long too.
    stacks = said[said.index(LINE) :].split("\n", 1)[1]
    assert stacks.startswith("Timeout (0:00:00.6") and "in dawdle" in stacks and "in before_step" in stacks


def test_a_run_of_several_processes_is_watched_unasked(keys):
    def patience(size, **chosen):
        recipe = Recipe.of(**{**keys, "train": {**keys["train"], **chosen}})
        return pipeline._patience(recipe, World(0, size, torch.device("cpu")))

    assert (patience(1), patience(2)) == (0, 600)
    assert (patience(2, watchdog=0), patience(1, watchdog=5), patience(2, watchdog=5)) == (0, 5, 5)


def test_nothing_is_written_while_steps_end_in_time(capfd):
    """Each step takes a twentieth of the time allowed, all together more than it."""

    class Steady(Hook):
        def before_step(self, loop):
            time.sleep(0.05)

    loop = tiny_loop(steps=24, hooks=[Steady()])
    with watched(loop, 1.0):
        loop.run()
    assert loop.state.seconds > 1.2
    assert not capfd.readouterr().err and len(loop.hooks) == 1


def test_it_speaks_again_while_the_step_lasts_and_names_the_rank(capfd):
    hook = Watchdog(0.1)
    hook.on_start(SimpleNamespace(world=World(1, 4, torch.device("cpu")), state=State(step=7)))
    time.sleep(2.0)
    hook.cancel()
    said = capfd.readouterr().err
    assert said.count("rank 1 of 4: step 8 has not ended") >= 2 and said.count("Timeout (") >= 2


def test_the_stacks_come_even_where_the_interpreter_is_held(capfd):
    loop = tiny_loop(steps=3, hooks=[Dawdling("hold")])
    with watched(loop, 0.2):
        loop.run()
    assert "in hold" in capfd.readouterr().err


def test_a_fault_ends_the_watch(capfd):
    loop = tiny_loop(steps=3, hooks=[Dawdling("fail")])
    with pytest.raises(ArithmeticError), watched(loop, 0.3):
        loop.run()
    time.sleep(0.8)
    assert not capfd.readouterr().err
