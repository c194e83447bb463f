"""The folder of a run: claimed without overwriting anything, and the lock that says what made it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright import machine
from tunewright.document import Document
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

RECIPE, LOCK, METRICS, CHECKPOINTS, ADAPTER = "recipe.yaml", "lock.json", "metrics.jsonl", "checkpoints", "adapter"
OWN_WEIGHTS = "trained.safetensors"
"""Inside the adapter's folder: its tensors under their own names."""
OURS = {
    RECIPE,
    LOCK,
    METRICS,
    CHECKPOINTS,
    ADAPTER,
    "evidence.json",
    "report.html",
    "fixtures.json",
    "model",
    "tensorboard",
}


def check(folder: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
    """Raises `BadInput` unless `claim` may make `folder` this run's own; leaves everything as it is.

    An existing run is refused unless it is to be resumed (by the same recipe) or overwritten, and so is a folder that
    holds anything else or cannot be written.
    """
    if resume and overwrite:
        raise BadInput("--resume continues a run and --overwrite discards it", hint="Give one of them.")
    try:
        if folder.exists() and not folder.is_dir():
            raise BadInput("the output exists and is not a folder", file=folder)
        found = {item.name for item in folder.iterdir()} if folder.exists() else set()
        if found and not resume and not overwrite:
            raise BadInput(
                "the output folder exists already", file=folder, hint="Add --resume, --overwrite, or another --output."
            )
        if found - OURS and overwrite:
            raise BadInput(
                "the folder holds what no run wrote",
                file=folder,
                found=sorted(found - OURS)[0],
                hint="Choose another --output.",
            )
        if resume and (folder / RECIPE).exists():
            same_recipe(Document.read(folder / RECIPE).keys, recipe, folder / RECIPE)
        with tempfile.TemporaryFile(
            dir=next(place for place in (folder, *folder.absolute().parents) if place.exists())
        ) as trial:
            trial.write(bytes(1 << 16))
    except OSError as error:
        raise BadInput(f"the output folder cannot be written: {error.strerror}", file=folder) from None


def claim(folder: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
    """Makes `folder` this run's own and writes the resolved recipe into it.

    Overwriting removes only what a run writes. Raises `BadInput` as `check` does.
    """
    check(folder, recipe, resume=resume, overwrite=overwrite)
    try:
        if overwrite and folder.exists():
            for item in folder.iterdir():
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the output folder cannot be written: {error.strerror}", file=folder) from None
    write(folder / RECIPE, as_yaml(recipe.plain()))


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all. Raises `BadInput` when the disk refuses."""
    aside = path.with_name(f".{path.name}.writing")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise BadInput(f"cannot be written: {error.strerror}", file=path) from None


def lock(recipe: Recipe, hashes: Mapping[str, str], origin: str) -> dict[str, Any]:
    """What fixes a run's result: recipe hash, data hashes, model files' hashes, versions, machine, seed."""
    folder = Path(origin)
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.json")) if folder.is_dir() else []
    return {
        "recipe": hashlib.sha256(as_yaml(recipe.plain()).encode()).hexdigest(),
        "data": dict(hashes),
        "model": {"origin": origin, "revision": recipe.model.revision, "files": {f.name: sha256(f) for f in files}},
        "seed": recipe.train.seed,
        "versions": machine.versions(),
        "machine": {k: v for k, v in machine.hardware().items() if k != "available_bytes"},
    }


def as_json(value: object) -> str:
    """A value as indented JSON with a final newline."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def sha256(path: Path) -> str:
    """The SHA-256 hash of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_yaml(value: Mapping[str, Any]) -> str:
    """Plain values as YAML text."""
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 110
    yaml.dump(json.loads(json.dumps(value)), stream)
    return stream.getvalue()


def same_recipe(before: Mapping[str, Any], recipe: Recipe, path: Path) -> None:
    """Raises `BadInput` with the first difference unless `before`, as `path` holds it, is the recipe's plain values."""
    now = json.loads(json.dumps(recipe.plain()))
    for section in now:
        old, new = before.get(section), now[section]
        if old == new:
            continue
        key = (
            next((k for k in new if isinstance(old, dict) and old.get(k) != new[k]), None)
            if isinstance(new, dict)
            else None
        )
        old, new = (old[key], new[key]) if key and isinstance(old, dict) else (old, new)
        raise BadInput(
            "the run to resume was started with another recipe", file=path, field=f"{section}.{key}" if key else section,
            found=new, expected=repr(old), hint="Use the same recipe, or --overwrite.",
        )  # fmt: skip
