"""What a method is, and how methods are found: by folder and name, without a list kept by hand.

A method is one pydantic class in one file. The file's stem is its name; the folder says its kind. Files whose
name begins with an underscore, and `base.py`, hold mechanisms and protocols, not methods.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from tunewright.errors import BadInput, nearest

ROOMS: dict[str, str] = {
    "adapter": "tunewright.adapters",
    "objective": "tunewright.objectives",
    "optimizer": "tunewright.optimize.optimizers",
    "schedule": "tunewright.optimize.schedules",
    "layers": "tunewright.optimize.layers",
    "regularizer": "tunewright.regularize",
    "format": "tunewright.data.formats",
    "order": "tunewright.data.order",
    "augment": "tunewright.data.augment",
    "quantizer": "tunewright.models.quantize",
    "context": "tunewright.models.context",
    "vocabulary": "tunewright.models.vocabulary",
    "decoder": "tunewright.decode",
    "task": "tunewright.evaluate.tasks",
    "claim": "tunewright.claims",
}
"""Kind of method -> the folder (as a package) whose files hold the methods of that kind."""

Need = Literal[
    "reference",
    "teacher",
    "embedder",
    "verifier",
    "judge",
    "reward",
    "calibration",
    "pairs",
    "labels",
    "mismatched",
    "wordings",
    "groups",
]
"""What a method may require beyond model and data; a recipe's `supplies` answers with the same words."""

Observable = Literal["loss", "gradient", "parameters", "tokens", "output", "files", "steps", "bytes", "log", "error"]
"""Where the effect of an option shows; the contract changes the option and requires a change there."""

ENTRY_POINTS = "tunewright.methods"


class Paper(BaseModel):
    """The publication a method comes from; `card` is its number in the project's list of papers."""

    model_config = ConfigDict(frozen=True)
    title: str
    arxiv: str | None = None
    card: int | None = None


class Effect(NamedTuple):
    """How an option proves that it does something: set to `second`, `observable` must change.

    `given` holds the recipe fields (dotted) that must be set for the option to matter.
    """

    observable: Observable
    second: Any
    given: dict[str, Any]


def option(
    default: Any,
    help: str,
    *,
    changes: Observable,
    to: Any,
    given: dict[str, Any] | None = None,
    **bounds: Any,
) -> Any:
    """A documented field of a method or recipe section.

    `changes` and `to` (with `given`) declare its `Effect`; `bounds` are pydantic's (`ge`, `gt`, `le`, `lt`, ...).
    """
    made: FieldInfo = Field(default, description=help, **bounds)
    made.metadata.append(Effect(changes, to, given or {}))
    return made


def effect(field: FieldInfo) -> Effect | None:
    """The declared effect of a field made by `option`, or None."""
    return next((item for item in field.metadata if isinstance(item, Effect)), None)


class Method(BaseModel):
    """A published (or standard) method as a frozen specification: its fields are its hyperparameters.

    A method holds no tensors and no counters; the behaviour of its kind (`attach`, `build`, `bind`, ...) returns a
    private runtime object that does. `needs` is a property of the instance, since an option may add a need.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    kind: ClassVar[str]
    name: ClassVar[str]
    papers: ClassVar[tuple[Paper, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    """Options that name files or folders, which a recipe may name relative to itself."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the recipe must supply for this instance."""
        return frozenset()

    @property
    def accepts(self) -> frozenset[Need]:
        """What this instance uses where the recipe supplies it, and has an answer of its own to where not."""
        return frozenset()

    @property
    def traits(self) -> frozenset[str]:
        """What others may want of a method of this kind, in the words of the kind's protocol."""
        return frozenset()

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        """Kind -> the traits that a recipe's method of that kind must have beside this instance."""
        return {}

    @property
    def packs(self) -> bool:
        """Whether records packed into one row stay apart under this instance; without it rows are padded."""
        return True

    @property
    def positions(self) -> int:
        """How many positions of the model's context this instance takes before every sequence."""
        return 0

    @property
    def columns(self) -> frozenset[str]:
        """The named columns of the training rows that this instance reads: a number per row, or one per token."""
        return frozenset()

    @classmethod
    def summary(cls) -> str:
        """The first sentence of the docstring, on one line."""
        return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())


AnyMethod = TypeVar("AnyMethod", bound=Method)

_added: dict[str, dict[str, type[Method]]] = {}


def names(kind: str) -> list[str]:
    """The names of the methods of a kind, sorted; nothing is imported but the kind's own package."""
    return sorted({*_files(kind), *_added.get(kind, {})})


def find(kind: str, name: str) -> type[Method]:
    """The class of the method `name` of `kind`.

    Raises `BadInput` with the nearest known name when there is none.
    """
    added = _added.get(kind, {})
    if name in added:
        return added[name]
    module = _files(kind).get(name)
    if module is None:
        known = names(kind)
        raise BadInput(
            f"no {kind} is called '{name}'",
            hint=nearest(name, known) or f"Known: {', '.join(known) or 'none'}.",
        )
    found = [
        item
        for item in vars(importlib.import_module(module)).values()
        if isinstance(item, type) and issubclass(item, Method) and item.__dict__.get("name") == name
    ]
    if len(found) != 1:
        raise TypeError(f"{module} must define exactly one method named '{name}', found {len(found)}")
    return found[0]


def methods(kind: str | None = None) -> Iterator[type[Method]]:
    """Every method (of one kind), by kind and name. Imports their modules."""
    for each in [kind] if kind else ROOMS:
        yield from (find(each, name) for name in names(each))


def lazily(kind: str) -> Callable[[str], type[Method]]:
    """A module `__getattr__` that hands on the classes of a kind: `adapters.LoRA` is the method `lora`."""

    def get(attribute: str) -> type[Method]:
        stem = next((name for name in names(kind) if name.replace("_", "") == attribute.lower()), None)
        method = find(kind, stem) if stem and not attribute.islower() else None
        if method is None or method.__name__ != attribute:
            raise AttributeError(f"module {ROOMS[kind]!r} has no attribute {attribute!r}")
        return method

    return get


def defined(module: ModuleType) -> list[type[Method]]:
    """The methods that a module itself defines."""
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Method)
        and item.__module__ == module.__name__
        and "name" in vars(item)
    ]


def add(module: ModuleType) -> list[type[Method]]:
    """Registers the methods that a user's module defines; returns them.

    Raises `BadInput` when the module defines none, or a name that is taken.
    """
    own = defined(module)
    if not own:
        raise BadInput("defines no method", file=module.__file__, field="use", expected="a class with kind and name")
    for method in own:
        if getattr(method, "kind", None) not in ROOMS:
            raise BadInput(
                f"the method '{method.name}' is of no known kind",
                file=module.__file__,
                expected=f"one of {', '.join(ROOMS)}",
            )
        known = _added.setdefault(method.kind, {})
        if method.name in _files(method.kind) or known.get(method.name, method).__module__ != module.__name__:
            raise BadInput(f"the {method.kind} '{method.name}' exists already", file=module.__file__, field="name")
        known[method.name] = method
    return own


def use(path: Path) -> ModuleType:
    """Imports a user's Python file (named in the recipe) and registers the methods it defines."""
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    module_name = f"tunewright_user_{path.stem}_{place}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BadInput("cannot be read as a Python file", file=path, field="use")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadInput(f"importing it failed: {type(error).__name__}: {error}", file=path, field="use") from error
    add(module)
    return module


def plug_in() -> None:
    """Registers the methods of installed packages that name a module under the entry point group."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        add(point.load())


def _files(kind: str) -> dict[str, str]:
    package = ROOMS.get(kind)
    spec = importlib.util.find_spec(package) if package else None
    found: dict[str, str] = {}
    for root in (Path(p) for p in (spec.submodule_search_locations or [])) if spec else ():
        for file in sorted(root.rglob("*.py")):
            inside = file.relative_to(root).with_suffix("").parts
            if file.stem != "base" and not any(part.startswith("_") for part in inside):
                found[file.stem] = ".".join((str(package), *inside))
    return found
