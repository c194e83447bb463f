"""Going on with an interrupted run from its folder alone, and the proof that a resumed run is the same run."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewright import output
from tunewright.assembly import assemble
from tunewright.errors import BadInput, shown
from tunewright.pipeline import build_loop, speaker
from tunewright.recipe import Recipe
from tunewright.report import html
from tunewright.train.checkpoint import latest, pack, unpack, write_folder
from tunewright.train.loop import Loop, Step, Steps

FIGURES = "figures of steps"
"""Loss, rate, gradient norm and tokens of the steps taken."""

Stand = dict[str, dict[str, Any]]
"""Where a run stands: what is compared -> name -> tensor or plain value."""

LOADED = ("trained tensors", "optimizer tensors", "optimizer numbers", "position", "random state")
"""What stands as it was saved as soon as it is loaded. A hook may wait for the run's start."""


@dataclass(frozen=True)
class Proof:
    """What was compared (how many of each) between two steps in one go and two with a save and a load between them.

    `difference` names the first that is not equal in every bit, with its size; None where all are equal.
    """

    checkpoint: str
    steps: tuple[int, ...]
    compared: Mapping[str, int]
    difference: str | None

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "equal": self.difference is None}

    def __str__(self) -> str:
        first, second = self.steps
        title = f"{self.checkpoint}: steps {first} and {second} in one go, and with a save and a load between them"
        return "\n".join([title, *(f"  {what:<18} {count:>6}" for what, count in self.compared.items())])


def unfinished(folder: Path) -> Recipe:
    """The recipe of a run that was interrupted.

    Raises `BadInput` where the folder is no run, holds no whole checkpoint, or the run is finished.
    """
    recipe = _recipe(folder)
    # The last file that a run writes.
    if (folder / html.FILE).is_file():
        raise BadInput("the run is finished: no step is left", file=folder, hint="--verify checks its checkpoints.")
    return recipe


def verify(folder: Path, quiet: bool = True) -> Proof:
    """Takes two steps from the newest checkpoint that has two left, and the same two with a save and a load between.

    Model, data and loop are made anew for each part, as in a new process; the folder is only read. Raises `BadInput`
    where the folder is no run, or no whole checkpoint has two steps left.
    """
    recipe, say = _recipe(folder), speaker(quiet)
    say("Two steps in one go ...")
    checkpoint, straight, whole = _in_one_go(recipe, folder)
    with tempfile.TemporaryDirectory() as place:
        aside = Path(place) / checkpoint.name
        say("One step, and a save ...")
        first, saved = _saved(recipe, checkpoint, aside)
        say("A load, and the second step ...")
        loop = _fresh(recipe, folder)
        unpack(loop, aside)
    again = {FIGURES: _figures(straight[:1])}, {FIGURES: _figures(first)}
    loaded = _stand(pack(loop), ())
    difference = _difference(*again, "taken again") or _difference(saved, loaded, "as loaded back", LOADED)
    del saved, loaded
    second = _taken(loop, 1)
    difference = difference or _difference(whole, _stand(pack(loop), [*first, *second]), "after the second step")
    counts = {what: len(values) for what, values in whole.items() if values}
    return Proof(checkpoint.name, (straight[0].step, straight[1].step), counts, difference)


def _recipe(folder: Path) -> Recipe:
    """The recipe of a run that has a whole checkpoint."""
    if not (folder / output.RECIPE).is_file():
        raise BadInput("not the folder of a run", file=folder, expected=output.RECIPE)
    if latest(folder / output.CHECKPOINTS) is None:
        hint = f"Begin again: tunewright run {folder / output.RECIPE} --output {folder} --resume"
        raise BadInput("there is no whole checkpoint to go on from", file=folder / output.CHECKPOINTS, hint=hint)
    return Recipe.read(folder / output.RECIPE)


def _fresh(recipe: Recipe, folder: Path) -> Loop:
    """The run's loop before its first step, with the hooks that act and none that write."""
    # Parts of a loop know each other: only a collection frees the model of the one before.
    gc.collect()
    return build_loop(assemble(recipe), folder, record=False)


def _in_one_go(recipe: Recipe, folder: Path) -> tuple[Path, list[Step], Stand]:
    loop = _fresh(recipe, folder)
    checkpoint = latest(folder / output.CHECKPOINTS, before=loop.total - 1)
    if checkpoint is None:
        raise BadInput(
            f"no whole checkpoint has two of the run's {loop.total} steps left", file=folder / output.CHECKPOINTS,
            hint="Keep more of them (train.keep_checkpoints), or save more often (train.checkpoint_every).",
        )  # fmt: skip
    unpack(loop, checkpoint)
    steps = _taken(loop, 2)
    if len(steps) < 2:
        raise BadInput("the run ends before two more steps are taken", file=checkpoint)
    return checkpoint, steps, _stand(pack(loop), steps)


def _saved(recipe: Recipe, checkpoint: Path, aside: Path) -> tuple[list[Step], Stand]:
    """One step from `checkpoint`, saved as `aside`."""
    loop = _fresh(recipe, aside)
    unpack(loop, checkpoint)
    steps, packed = _taken(loop, 1), pack(loop)
    write_folder(aside, *packed)
    return steps, _stand(packed, ())


def _taken(loop: Loop, count: int) -> list[Step]:
    """Up to `count` steps, taken as a run that was just resumed takes them."""
    taken = Steps()
    loop.hooks.append(taken)
    for hook in loop.hooks:
        hook.on_start(loop)
    loop.advance(count)
    return taken.done


def _stand(packed: tuple[dict[str, dict[str, Tensor]], dict[str, Any]], steps: Sequence[Step]) -> Stand:
    """What a checkpoint holds but the time taken, with the figures of the steps that led there."""
    tensors, described = packed
    numbers = {f"{name}/{key}": v for name, values in described["optimizer"].items() for key, v in values.items()}
    return {
        FIGURES: _figures(steps),
        "trained tensors": tensors["trained"],
        "optimizer tensors": tensors["optimizer"],
        "optimizer numbers": numbers,
        "position": {key: value for key, value in described["state"].items() if key != "seconds"},
        "random state": tensors["random"],
        "hooks": described["hooks"],
    }


def _figures(steps: Sequence[Step]) -> dict[str, Any]:
    return {
        f"{name} of step {step.step}": value
        for step in steps
        for name, value in asdict(step).items()
        if name not in ("step", "seconds")
    }


def _difference(one: Stand, other: Stand, when: str, groups: Sequence[str] = ()) -> str | None:
    """The first value that is not the same in every bit, with the size of the difference."""
    for group in groups or one:
        for name in {**one[group], **other[group]}:
            if name not in one[group] or name not in other[group]:
                return f"{group}: '{name}' is on one side alone {when}"
            if size := _size(one[group][name], other[group][name]):
                return f"{group}: '{name}' differs {when}: {size}"
    return None


def _size(one: Any, other: Any) -> str:
    """How far two values are apart, in words; empty where they are equal. Plain values are compared as JSON."""
    if not isinstance(one, Tensor):
        texts = json.dumps(one, sort_keys=True), json.dumps(other, sort_keys=True)
        return "" if texts[0] == texts[1] else f"{shown(one)} in one go, {shown(other)} with a load"
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return f"{one.dtype} {list(one.shape)} and {other.dtype} {list(other.shape)}"
    if not one.numel():
        return ""
    bits = [value.contiguous().view(-1).view(torch.uint8).view(value.numel(), -1) for value in (one, other)]
    changed = (bits[0] != bits[1]).any(1)
    if not changed.any():
        return ""
    largest = float((one.double() - other.double()).abs().max())
    return f"{int(changed.sum())} of {one.numel()} values, by up to {largest:.3g}"
