"""A YAML or JSON document that remembers the line of every key, so that a fault can be pointed at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.errors import BadInput, nearest

Place = tuple[str | int, ...]


class Keys(NamedTuple):
    """Where a recipe came from: its file (None for Python) and the line of each key path."""

    file: Path | None
    lines: Mapping[Place, int]


@dataclass(frozen=True)
class Document:
    """Plain Python values with the file and lines they came from."""

    keys: dict[str, Any]
    file: Path | None = None
    lines: Mapping[Place, int] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Document:
        """Reads YAML 1.2 (JSON included): duplicate keys and numbers that are not finite are refused."""
        try:
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise BadInput(f"the recipe cannot be read: {error.strerror}", file=path) from None
        except UnicodeDecodeError as error:
            raise BadInput(f"not UTF-8 text: {error.reason} at byte {error.start}", file=path) from None
        lines: dict[Place, int] = {}
        keys = _load(text, lines, file=path)
        if not isinstance(keys, dict):
            raise BadInput("not a recipe", file=path, found=keys, expected="keys such as 'model:' and 'data:'")
        document = Document(keys, path, lines)
        document._check_finite(document.keys, ())
        return document

    @property
    def origin(self) -> Keys:
        """File and lines, without the values."""
        return Keys(self.file, self.lines)

    def changed(self, changes: Sequence[str]) -> Document:
        """The document after changes of the form `a.b.0.c=value`, the value read as YAML.

        A bare method name on the way (`adapter: lora`) is opened to options, so that `adapter.rank=8` works.
        """
        document = self
        for change in changes:
            path, equals, text = change.partition("=")
            if not equals or not path:
                raise BadInput("not a change", found=change, expected="KEY=VALUE", field="--set")
            value = _load(text, {}, field=f"--set {path}")
            place = tuple(int(part) if part.isdigit() else part for part in path.strip().split("."))
            document = Document(_put(document.keys, place, value, ()), self.file, self.lines)
            document._check_finite(value, place)
        return document

    def line(self, place: Place) -> int | None:
        """The line of the key at `place`, or of the nearest key around it."""
        for end in range(len(place), 0, -1):
            if place[:end] in self.lines:
                return self.lines[place[:end]]
        return None

    def fault(self, place: Place, message: str, **details: Any) -> BadInput:
        """The error that names file, line and field of `place`."""
        named = ".".join(str(part) for part in place) or None
        return BadInput(message, file=self.file, line=self.line(place), field=named, **details)

    def path_of(self, name: str, place: Place) -> Path:
        """The existing file `name`: beside the recipe, else below the current directory."""
        return find_path(name, self.origin, place)

    def anchored(self, options: Mapping[str, Any], *names: str) -> dict[str, Any]:
        """`options` with the paths under `names` made absolute where they exist (`FILE.py:NAME` by its file).

        So the resolved recipe means the same files wherever it is read again. Names of hubs stay as they are.
        """
        found = dict(options)
        for name in names:
            value = options.get(name)
            if isinstance(value, str) and value:
                file, colon, rest = value.rpartition(":") if ".py:" in value else (value, "", "")
                path = next((path for path in _places(file, self.file) if path.exists()), None)
                found[name] = f"{path}{colon}{rest}" if path else value
        return found

    def _check_finite(self, value: Any, place: Place) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise self.fault(place, "not usable", found=value, expected="a finite number")
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            self._check_finite(item, (*place, key))


def find_path(name: str, origin: Keys, place: Place) -> Path:
    """The existing path `name`: beside the recipe file, else below the current directory.

    Raises `BadInput` naming the places looked at and the nearest name there.
    """
    wanted, tried = Path(name), _places(name, origin.file)
    for path in tried:
        if path.exists():
            return path
    folder = tried[0].parent
    near = nearest(wanted.name, [item.name for item in folder.iterdir()]) if folder.is_dir() else None
    lines = [origin.lines.get(place[:end]) for end in range(len(place), 0, -1)]
    raise BadInput(
        "no such file or directory", file=origin.file, line=next((line for line in lines if line), None),
        field=".".join(str(part) for part in place), found=name,
        expected=f"an existing path (looked at {', '.join(str(path) for path in tried)})", hint=near,
    )  # fmt: skip


def _places(name: str, file: Path | None) -> list[Path]:
    wanted = Path(name).expanduser()
    beside = file.resolve().parent if file else Path.cwd()
    return list(dict.fromkeys([beside / wanted, Path.cwd() / wanted]))


def _load(text: str, lines: dict[Place, int], **where: Any) -> Any:
    """YAML text as plain values, the line of every key noted in `lines`; `where` names the text in an error."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return _plain(YAML(typ="rt").load(text), (), lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error).splitlines()[0]
        raise BadInput(f"not valid YAML: {problem}", line=mark.line + 1 if mark else None, **where) from None
    except YAMLError as error:
        raise BadInput(f"not valid YAML: {str(error).splitlines()[0]}", **where) from None
    except RecursionError:
        raise BadInput("not usable YAML: nested too deeply", **where) from None
    except TypeError as error:
        raise BadInput(f"not usable YAML: {error}", **where) from None


def _plain(value: Any, place: Place, lines: dict[Place, int]) -> Any:
    marks: Any = getattr(value, "lc", None)
    if isinstance(value, Mapping):
        for key in value:
            # Keys merged in by `<<` have no place of their own.
            if key in marks.data:
                lines[(*place, key)] = marks.key(key)[0] + 1
        return {key: _plain(item, (*place, key), lines) for key, item in value.items()}
    if isinstance(value, list):
        for index in range(len(value)):
            lines[(*place, index)] = marks.item(index)[0] + 1
        return [_plain(item, (*place, index), lines) for index, item in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    for base in (int, float, str):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__}")


_METHODS = {"quantize", "context", "vocabulary", "order", "format", "augment"}
"""Keys inside `model` and `data` that hold methods."""


def _word(place: Place) -> str:
    """The key that a bare word at `place` stands for."""
    if _METHODS & {*place[-2:]}:
        return "method"
    if place[0] == "data":
        return "train" if len(place) == 1 else "path"
    return {"model": "path", "evaluate": "task"}.get(str(place[0]), "method")


def _put(node: Any, place: Place, value: Any, done: Place) -> Any:
    if not place:
        return value
    step, rest = place[0], place[1:]
    if isinstance(step, int) and isinstance(node, list):
        if step >= len(node):
            raise BadInput(
                "no such item",
                field="--set " + ".".join(map(str, (*done, step))),
                expected=f"0 to {len(node) - 1}",
            )
        return [_put(item, rest, value, (*done, step)) if i == step else item for i, item in enumerate(node)]
    if isinstance(node, str):
        node = {_word(done): node}
    if node is not None and not isinstance(node, Mapping):
        raise BadInput("cannot be set", field="--set " + ".".join(map(str, (*done, step))), found=node)
    mapping = dict(node or {})
    key = str(step) if step not in mapping else step
    return {**mapping, key: _put(mapping.get(key), rest, value, (*done, step))}
