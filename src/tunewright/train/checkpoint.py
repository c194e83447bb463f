"""Checkpoints on disk: written aside, synchronised, verified, then renamed. A half-written one is never taken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.shards import like, whole
from tunewright.train.loop import Loop, State, Step

MANIFEST = "manifest.json"


def write_folder(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], described: Mapping[str, Any]) -> None:
    """Writes `NAME.safetensors` per group of tensors and `state.json` into `folder`, all or nothing.

    Files are written into a folder aside, synchronised to disk, read back against a manifest of SHA-256 hashes, and
    the folder is renamed into place. Raises `BadInput` when the disk is full or refuses.
    """
    aside = folder.with_name(f".{folder.name}.writing")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, group in tensors.items():
            save_file({key: value.contiguous() for key, value in group.items()}, aside / f"{name}.safetensors")
        (aside / "state.json").write_text(json.dumps(described, indent=1))
        hashes = {file.name: _synchronised_hash(file) for file in sorted(aside.iterdir())}
        (aside / MANIFEST).write_text(json.dumps(hashes, indent=1))
        _synchronise(aside / MANIFEST)
        _synchronise(aside)
        verify(aside)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
        _synchronise(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"the checkpoint cannot be written: {reason}", file=folder, hint="Free space or permissions."
        ) from None


def verify(folder: Path) -> None:
    """Raises `BadInput` unless every file of a checkpoint is there with the hash its manifest names."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        raise BadInput("not a whole checkpoint: its manifest is missing or unreadable", file=folder) from None
    if not isinstance(hashes, dict) or "state.json" not in hashes:
        raise BadInput("not a whole checkpoint: its manifest names no state", file=folder)
    for name, expected in hashes.items():
        found = _hash(folder / name) if (folder / name).is_file() else "nothing"
        if found != expected:
            raise BadInput("the checkpoint is damaged", file=folder / name, found=found[:12], expected=expected[:12])


def read_folder(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors by group and the description of a verified checkpoint."""
    verify(folder)
    tensors = {file.stem: load_file(file) for file in folder.glob("*.safetensors")}
    return tensors, json.loads((folder / "state.json").read_text())


def latest(root: Path, before: int | None = None) -> Path | None:
    """The newest whole checkpoint below `root`, of a step before `before` where that is given, or None.

    Damaged ones are passed over.
    """
    for folder in sorted(root.glob("step-*"), reverse=True):
        try:
            verify(folder)
        except BadInput:
            continue
        if before is None or json.loads((folder / "state.json").read_text())["state"]["step"] < before:
            return folder
    return None


class Checkpoints(Hook):
    """Writes a checkpoint every `every` steps and when the run is stopped; keeps the newest `keep`.

    Should stand last among the hooks, so that the others' state is that after the step.
    """

    def __init__(self, root: Path, every: int, keep: int) -> None:
        self.root, self.every, self.keep = root, every, keep

    def after_step(self, loop: Loop, step: Step) -> None:
        if step.step % self.every == 0 or loop.interrupted:
            self.write(loop)

    def write(self, loop: Loop) -> None:
        """Writes the loop's state as `step-NNNNNNNN` and removes the oldest beyond `keep`."""
        tensors, described = pack(loop)
        if loop.world.main:
            write_folder(self.root / f"step-{loop.state.step:08d}", tensors, described)
            for old in sorted(self.root.glob("step-*"))[: -self.keep]:
                shutil.rmtree(old)
        loop.world.wait()


def pack(loop: Loop) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """All a run needs to go on to the same bits: trained tensors, optimizer, position, random state, hooks."""
    names = {id(p): name for name, p in loop.attached.trained().items()}
    moments: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, values in loop.optimizer.state.items():
        for key, value in values.items():
            name = names[id(parameter)]
            if isinstance(value, Tensor):
                moments[f"{name}/{key}"] = whole(value).detach().cpu()
            else:
                numbers.setdefault(name, {})[key] = value
    tensors = {
        "trained": {name: whole(value).detach().cpu() for name, value in loop.attached.state().items()},
        "optimizer": moments,
        "random": {"torch": torch.get_rng_state()},
    }
    described = {
        "state": asdict(loop.state),
        "optimizer": numbers,
        "hooks": {key: state for key, hook in _keyed(loop.hooks) if (state := hook.state())},
    }
    return tensors, described


def unpack(loop: Loop, folder: Path) -> None:
    """Puts a loop where the checkpoint in `folder` was written.

    Raises `BadInput` when the checkpoint is damaged or belongs to another adapter or optimizer.
    """
    tensors, described = read_folder(folder)
    loop.attached.load_state(tensors["trained"])
    loop.state = State(**described["state"])
    parameters = loop.attached.trained()
    loop.optimizer.state.clear()
    for name, values in described["optimizer"].items():
        loop.optimizer.state[parameters[name]].update(values)
    for name, value in tensors["optimizer"].items():
        owner, _, key = name.rpartition("/")
        if owner not in parameters:
            raise BadInput("the checkpoint belongs to another run", file=folder, found=owner)
        loop.optimizer.state[parameters[owner]][key] = like(parameters[owner], value.to(parameters[owner].device))
    torch.set_rng_state(tensors["random"]["torch"])
    for key, hook in _keyed(loop.hooks):
        hook.load_state(described["hooks"].get(key, {}))


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _synchronised_hash(file: Path) -> str:
    _synchronise(file)
    return _hash(file)


def _synchronise(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _keyed(hooks: Sequence[Hook]) -> Iterator[tuple[str, Hook]]:
    """Every hook with the name of its class and its number among those of that class, as hooks without state come and
    go between runs."""
    seen: Counter[str] = Counter()
    for hook in hooks:
        name = f"{type(hook).__module__}.{type(hook).__qualname__}"
        yield f"{name} {seen[name]}", hook
        seen[name] += 1
