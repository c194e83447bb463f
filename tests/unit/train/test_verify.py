"""A resumed run is the same run, and where it is not, the first difference is named."""

import shutil

import pytest

from tunewright import output, pipeline, verify
from tunewright.errors import BadInput, Interrupted
from tunewright.hooks import Hook
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny_folder
from tunewright.train.checkpoint import latest, unpack


class Stop(Hook):
    """Asks to stop while the third step is taken."""

    def before_step(self, loop):
        loop.stop_asked = loop.state.step == 1


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    rows = "".join(f'{{"prompt": "{n} + 1 =", "completion": " {n + 1}"}}\n' for n in range(24))
    (folder / "rows.jsonl").write_text(rows)
    return {
        "model": str(tiny_folder(folder / "model")),
        "data": {"train": str(folder / "rows.jsonl"), "cache": False},
        "adapter": {"method": "lora", "rank": 4, "dropout": 0.2},
        "train": {"steps": 8, "tokens_per_step": 128, "precision": "fp32", "trackers": [], "rehearsal": False},
        "evaluate": [],
    }


def stopped(keys, folder):
    """A run that was interrupted after its third step."""
    acting = pipeline._acting
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_acting", lambda *given: [*acting(*given), Stop()])
        with pytest.raises(Interrupted):
            pipeline.run(Recipe.of(**keys), folder, quiet=True)
    assert latest(folder / output.CHECKPOINTS).name == "step-00000003"
    return folder


@pytest.fixture(scope="module")
def interrupted(keys, tmp_path_factory):
    return stopped(keys, tmp_path_factory.mktemp("runs") / "out")


def content(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_a_resumed_run_is_the_same_run(interrupted):
    before = content(interrupted)
    proof = verify.verify(interrupted)
    assert proof.difference is None, proof.difference
    assert (proof.checkpoint, proof.steps) == ("step-00000003", (4, 5))
    counts = proof.compared
    assert counts["trained tensors"] > 0 and counts["optimizer tensors"] >= 2 * counts["trained tensors"]
    assert counts["position"] == 2 and counts["figures of steps"] == 12 and "hooks" not in counts
    assert content(interrupted) == before
    assert proof.plain()["equal"] is True and "steps 4 and 5" in str(proof)


WITH_STATE = {
    "regularize": {"regularize": ["lora_ggpo"]},
    "layers": {"adapter": "full", "layers": "lisa"},
    "adapter": {"adapter": "spiel"},
}


@pytest.mark.parametrize("key", WITH_STATE)
def test_hooks_with_a_state_come_back_too(key, keys, tmp_path):
    proof = verify.verify(stopped(keys | WITH_STATE[key], tmp_path / "out"))
    assert proof.difference is None and proof.compared["hooks"] == 1


def altered(monkeypatch, change):
    """Loading a checkpoint of the proof's own ends with `change`."""

    def load(loop, folder):
        unpack(loop, folder)
        if output.CHECKPOINTS not in folder.parts:
            change(loop)

    monkeypatch.setattr(verify, "unpack", load)


def moment(loop):
    name, parameter = next(iter(loop.attached.trained().items()))
    return name, loop.optimizer.state[parameter]["exp_avg"]


def test_an_optimizer_tensor_that_came_back_otherwise_is_named_with_its_size(interrupted, monkeypatch):
    seen = []

    def change(loop):
        name, value = moment(loop)
        seen.append(f"'{name}/exp_avg'")
        value.view(-1)[:2] += 0.25

    altered(monkeypatch, change)
    told = verify.verify(interrupted).difference
    assert told.startswith(f"optimizer tensors: {seen[0]} differs as loaded back: 2 of ") and told.endswith(
        "by up to 0.25"
    )


def test_a_sign_of_zero_counts(interrupted, monkeypatch):
    def change(loop):
        value = moment(loop)[1]
        value.view(-1)[0] = -value.view(-1)[0]

    altered(monkeypatch, change)
    assert "differs as loaded back: 1 of" in verify.verify(interrupted).difference


def test_what_no_checkpoint_holds_shows_in_the_second_step(interrupted, monkeypatch):
    altered(monkeypatch, lambda loop: loop.optimizer.param_groups[0].update(peak_lr=0.5))
    assert "'lr of step 5' differs after the second step: " in verify.verify(interrupted).difference


def test_steps_that_are_not_the_same_when_taken_again_are_told_apart(interrupted, monkeypatch):
    build, made = verify.build_loop, []

    def other(*given, **options):
        loop = build(*given, **options)
        made.append(loop.optimizer)
        made[-1].param_groups[0]["peak_lr"] *= len(made)
        return loop

    monkeypatch.setattr(verify, "build_loop", other)
    assert "'lr of step 4' differs taken again" in verify.verify(interrupted).difference


def test_a_finished_run_is_not_resumed_but_can_be_verified(keys, tmp_path):
    train = keys["train"] | {"checkpoint_every": 2}
    folder = pipeline.run(Recipe.of(**keys | {"train": train}), tmp_path / "out", quiet=True).folder
    with pytest.raises(BadInput, match="finished: no step is left"):
        verify.unfinished(folder)
    assert verify.verify(folder).checkpoint == "step-00000006"
    shutil.rmtree(folder / output.CHECKPOINTS / "step-00000006")
    with pytest.raises(BadInput, match="no whole checkpoint has two of the run's 8 steps left"):
        verify.verify(folder)


@pytest.mark.parametrize("ask", [verify.unfinished, verify.verify])
def test_folders_that_cannot_be_resumed(ask, interrupted, tmp_path):
    with pytest.raises(BadInput, match=r"absent: not the folder of a run; expected recipe\.yaml"):
        ask(tmp_path / "absent")
    copy = shutil.copytree(interrupted, tmp_path / "copy")
    (copy / output.CHECKPOINTS / "step-00000003" / "manifest.json").write_text("{}")
    with pytest.raises(BadInput, match="no whole checkpoint to go on from"):
        ask(copy)
