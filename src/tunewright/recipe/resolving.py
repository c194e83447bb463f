"""From the keys of a document to the parts of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tunewright import catalog
from tunewright.catalog import Method, Need
from tunewright.document import Document, Place
from tunewright.errors import BadInput, nearest
from tunewright.recipe.options import checked
from tunewright.recipe.sections import (
    AUTO,
    EMBEDDED,
    LISTS,
    NESTED,
    OPTIONAL,
    SLOTS,
    DataSpec,
    ModelSpec,
    Reading,
    SourceSpec,
    TrainSpec,
)

KEYS = ("model", "data", *SLOTS, *OPTIONAL, *LISTS, "supplies", "train", "evaluate", "use")
"""The keys of a recipe, in the order in which it is written."""

FILES = ("data", "function")
"""Options of tasks that name files."""


def resolved(document: Document) -> dict[str, Any]:
    """The parts of the recipe in `document`, by key, with every default filled in and every method found.

    Raises `BadInput` naming file, line and field of the first fault.
    """
    keys = document.keys
    for key in keys:
        if key not in KEYS:
            raise document.fault((key,), "unknown key", hint=nearest(str(key), KEYS) or f"Known: {', '.join(KEYS)}.")
    for required in ("model", "data"):
        if keys.get(required) is None:
            raise document.fault((), f"the recipe has no '{required}'", hint=f"Add a line '{required}: ...'.")
    use = _strings(document, "use")
    use = tuple(str(document.path_of(item, ("use",))) for item in use)
    for item in use:
        catalog.use(Path(item))
    slots = {
        kind: _method(document, kind, default if keys.get(kind) is None else keys[kind], (kind,))
        for kind, default in SLOTS.items()
    }
    optional = {
        key: None if keys.get(key) is None else _method(document, kind, keys[key], (key,))
        for key, kind in OPTIONAL.items()
    }
    return {
        "model": checked(document, ModelSpec, _model_keys(document), ("model",)),
        "data": _data(document),
        **slots,
        **optional,
        **{key: _methods(document, key, kind) for key, kind in LISTS.items()},
        "supplies": _supplies(document),
        "train": checked(document, TrainSpec, {} if keys.get("train") is None else keys["train"], ("train",)),
        "evaluate": _tasks(document),
        "use": use,
    }


MEASURED = (
    "perplexity",
    {"task": "calibration", "limit": 100},
    {"task": "format_spread", "formats": 4, "limit": 40},
    {"task": "prompt_sensitivity", "limit": 20},
    "retention",
)
"""What is measured when a recipe does not say: the task, how far its answers can be believed, and what was known."""


def _model_keys(document: Document) -> Any:
    value = document.keys["model"]
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        return value
    files = ("chat_template", "adapter") if value.get("path") == EMBEDDED else ("path", "chat_template", "adapter")
    return _nested(document, document.anchored(value, *files), "model")


def _nested(document: Document, options: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The options of a section, with the methods among them found."""
    own = {key: kind for (where, key), kind in NESTED.items() if where == section and options.get(key) is not None}
    return {**options, **{key: _method(document, kind, options[key], (section, key)) for key, kind in own.items()}}


def _methods(document: Document, key: str, kind: str) -> tuple[Method, ...]:
    return _all(document, kind, document.keys.get(key), (key,))


def _all(document: Document, kind: str, value: Any, at: Place) -> tuple[Method, ...]:
    """The methods of a kind where one, a list of them or none may stand."""
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_method(document, kind, item, (*at, index)) for index, item in enumerate(value))
    return (_method(document, kind, value, at),)


def _supplies(document: Document) -> dict[str, str]:
    value = document.keys.get("supplies") or {}
    if not isinstance(value, Mapping):
        raise document.fault(("supplies",), "not a set of options", found=value, expected="{need: what answers it}")
    known = get_args(Need)
    for name, given in value.items():
        if name not in known:
            raise document.fault(
                ("supplies", name), "unknown key", hint=nearest(str(name), known) or f"Known: {', '.join(known)}."
            )
        if not isinstance(given, str):
            raise document.fault(("supplies", name), "not usable", found=given, expected="a path or name")
    return dict(document.anchored(value, *value))


def _tasks(document: Document) -> tuple[Method, ...]:
    listed = document.keys.get("evaluate", MEASURED)
    if listed is None:
        listed = []
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise document.fault(("evaluate",), "not a list of tasks", found=listed, expected="a list, as [perplexity]")
    return tuple(_method(document, "task", item, ("evaluate", index)) for index, item in enumerate(listed))


def _strings(document: Document, key: str) -> tuple[str, ...]:
    value = document.keys.get(key) or ()
    value = (value,) if isinstance(value, str) else value
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise document.fault((key,), "not a list of file names", found=value, expected="a list of paths")
    return tuple(value)


def _method(document: Document, kind: str, value: Any, at: Place) -> Method:
    word = "task" if kind == "task" else "method"
    if isinstance(value, Method):
        if value.kind != kind:
            raise document.fault(at, f"'{value.name}' is a method of kind {value.kind}, not {kind}")
        return value
    options = {word: value} if isinstance(value, str) else value
    if not isinstance(options, Mapping) or not isinstance(options.get(word), str):
        raise document.fault(
            at, f"names no {kind}", found=value, expected=f"a name, or options with '{word}: NAME'",
            hint=f"Known: {', '.join(catalog.names(kind))}.",
        )  # fmt: skip
    try:
        cls = catalog.find(kind, options[word])
    except BadInput as error:
        named = (*at, word) if isinstance(value, Mapping) else at
        raise document.fault(named, error.message, hint=error.hint) from None
    given = {k: v for k, v in options.items() if k != word}
    paths = (*(FILES if kind == "task" else ()), *cls.files)
    files = (name for name in paths if given.get(name) != EMBEDDED)
    made: Method = checked(document, cls, document.anchored(given, *files), at)
    return made


def _data(document: Document) -> DataSpec:
    value = document.keys["data"]
    if isinstance(value, str):
        value = {"train": value}
    elif isinstance(value, Sequence):
        value = {"sources": value}
    if not isinstance(value, Mapping):
        raise document.fault(("data",), "not a source", found=value, expected="a path, a list of sources, or options")
    options = _formatted(document, value, ("data",))
    shared = {key: options[key] for key in Reading.model_fields if key in options}
    checked(document, Reading, shared, ("data",))
    given = [key for key in ("train", "sources") if options.get(key)]
    if len(given) != 1:
        raise document.fault(
            ("data",), "names no training rows" if not given else "names both 'train' and 'sources'",
            hint="Add 'train: FILE', or a list under 'sources'.",
        )  # fmt: skip
    sources = _sources(document, options.pop(given[0]), ("data", given[0]), shared)
    evals = _sources(document, options.pop("eval", None) or (), ("data", "eval"), shared)
    options.pop("train", None), options.pop("sources", None)
    options = _nested(document, options, "data")
    made: DataSpec = checked(document, DataSpec, {**options, "sources": sources, "eval": evals}, ("data",), ("train",))
    if evals and "split" in shared:
        raise document.fault(
            ("data", "split"), "rows are split off only when no eval data is named", hint="Remove one."
        )
    return made


def _formatted(document: Document, options: Mapping[str, Any], at: Place) -> dict[str, Any]:
    """The options with the row format and the augmentations among them found."""
    if "augment" in options:
        options = {**options, "augment": _all(document, "augment", options["augment"], (*at, "augment"))}
    value = options.get("format", AUTO)
    if value == AUTO:
        return dict(options)
    known = catalog.names("format")
    if not isinstance(value, Mapping | Method) and value not in known:
        raise document.fault(
            (*at, "format"), "not usable", found=value,
            expected=f"{', '.join(repr(name) for name in (AUTO, *known))}, or options with 'method: NAME'",
            hint=nearest(str(value), known),
        )  # fmt: skip
    return {**options, "format": _method(document, "format", value, (*at, "format"))}


def _sources(document: Document, value: Any, at: Place, shared: Mapping[str, Any]) -> tuple[SourceSpec, ...]:
    single = isinstance(value, str | Mapping)
    if not single and not isinstance(value, Sequence):
        raise document.fault(at, "not a source", found=value, expected="a path, options, or a list of them")
    listed = [value] if single else list(value)
    made = []
    for index, item in enumerate(listed):
        place = at if single else (*at, index)
        options = {"path": item} if isinstance(item, str) else item
        if not isinstance(options, Mapping):
            raise document.fault(place, "not a source", found=item, expected="a path, or options with 'path: FILE'")
        options = _formatted(document, options, place)
        anchored = document.anchored({**shared, **options}, "path", "eval", "function")
        source: SourceSpec = checked(document, SourceSpec, anchored, place)
        if source.weight is not None and source.epochs is not None:
            raise document.fault(place, "weight and epochs both say how often rows are drawn", hint="Give one of them.")
        made.append(source)
    return tuple(made)
