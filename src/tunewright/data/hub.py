"""Sources that are not files: data sets of the hub, those saved by `datasets`, rows of the embedded world."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.data import generated
from tunewright.document import Document, Keys, Place
from tunewright.errors import BadInput, nearest
from tunewright.network import hub
from tunewright.recipe import SourceSpec

_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def is_name(source: SourceSpec, origin: Keys) -> bool:
    """Whether a source's path can only be a name on the hub.

    No such file or folder above it, no suffix of a file, and an owner before a slash (or `part` or `subset` named).
    """
    if generated.is_generated(source):
        return True
    path = Path(source.path).expanduser()
    beside = origin.file.resolve().parent if origin.file else Path.cwd()
    owner = len(path.parts) > 1
    here = [folder / (path.parent if owner else path) for folder in (beside, Path.cwd())]
    named = owner or source.part is not None or source.subset is not None
    return named and not path.suffix and not any(item.exists() for item in here) and bool(_NAME.fullmatch(source.path))


def is_saved(path: Path) -> bool:
    """Whether a directory was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def saved(path: Path, source: SourceSpec) -> Iterator[dict[str, Any]]:
    """The rows of a data set saved to disk; `source.part` chooses the split."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:
        raise BadInput(f"not a readable data set: {error}", file=path) from None
    return iter(_part(found, source, str(path)))


def named(source: SourceSpec, origin: Keys, place: Place) -> Iterator[dict[str, Any]]:
    """The rows of a data set on the hub; `source.subset` and `source.part` choose configuration and split."""
    return (
        generated.rows(source, origin, place)
        if generated.is_generated(source)
        else iter(_loaded(source, origin, place))
    )


def fingerprint(source: SourceSpec, origin: Keys, place: Place) -> str:
    """What identifies the present content of a data set on the hub."""
    if generated.is_generated(source):
        return generated.fingerprint(source)
    return str(_loaded(source, origin, place)._fingerprint)


def _loaded(source: SourceSpec, origin: Keys, place: Place) -> Any:
    import datasets

    try:
        with hub(source.path):
            found = datasets.load_dataset(source.path, name=source.subset)
    except Exception as error:
        raise Document({}, origin.file, origin.lines).fault(
            place, "no such file, and no data set of the hub could be loaded under this name:"
            f" {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            found=source.path, expected="an existing path or the name of a data set",
        ) from None  # fmt: skip
    return _part(found, source, source.path)


def _part(found: Any, source: SourceSpec, name: str) -> Any:
    if not hasattr(found, "keys"):
        if source.part is not None:
            raise BadInput(
                "the data set has no parts", file=name, field="part", found=source.part, hint="Remove 'part'."
            )
        return found
    part = source.part or "train"
    if part not in found:
        known = list(found.keys())
        raise BadInput(
            "the data set has no such part", file=name, field="part", found=part, expected=f"one of {', '.join(known)}",
            hint=nearest(part, known),
        )  # fmt: skip
    return found[part]
