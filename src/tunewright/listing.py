"""Methods and recipe keys described as data: for the terminal, for scripts, and for editors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tunewright import catalog
from tunewright.catalog import Method, Need
from tunewright.recipe import LISTS, NESTED, OPTIONAL, SLOTS, DataSpec, ModelSpec, SourceSpec, TrainSpec


def described(method: type[Method]) -> dict[str, Any]:
    """Kind, name, summary, paper (or papers), fields and needs of a method with its defaults."""
    papers = [paper.model_dump(include={"card", "title", "arxiv"}) for paper in method.papers]
    found: dict[str, Any] = {
        "kind": method.kind,
        "name": method.name,
        "summary": method.summary(),
        "paper": papers[0] if papers else None,
        "fields": [_field(name, field) for name, field in method.model_fields.items()],
        "needs": sorted(needs(method)),
    }
    return found | ({"papers": papers} if len(papers) > 1 else {})


def needs(method: type[Method]) -> frozenset[str]:
    """What the method needs at its defaults; none where it has required fields and cannot say."""
    if any(field.is_required() for field in method.model_fields.values()):
        return frozenset()
    return frozenset(method().needs)


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, every method with its options: editors complete and check YAML with it."""
    definitions: dict[str, Any] = {}

    def section(cls: type[BaseModel]) -> dict[str, Any]:
        made = cls.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(made.pop("$defs", {}))
        return made

    source = section(SourceSpec)
    data = section(DataSpec)
    for one in (source, data):
        one["properties"]["format"] = {"anyOf": [{"const": "auto"}, _choice("format", "method", section)]}
    paths = {"anyOf": [{"type": "string"}, source, {"type": "array", "items": {"anyOf": [{"type": "string"}, source]}}]}
    data["properties"] |= {"train": paths, "sources": paths, "eval": paths}
    model = section(ModelSpec)
    for (where, key), kind in NESTED.items():
        {"model": model, "data": data}[where]["properties"][key] = _choice(kind, "method", section)
    properties: dict[str, Any] = {
        "model": {"anyOf": [{"type": "string"}, model]},
        "data": {"anyOf": [{"type": "string"}, data, paths["anyOf"][2]]},
        **{kind: _choice(kind, "method", section) for kind in SLOTS},
        **{key: _choice(kind, "method", section) for key, kind in OPTIONAL.items()},
        **{key: {"type": "array", "items": _choice(kind, "method", section)} for key, kind in LISTS.items()},
        "supplies": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in get_args(Need)},
            "additionalProperties": False,
        },
        "train": section(TrainSpec),
        "evaluate": {"type": "array", "items": _choice("task", "task", section)},
        "use": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tunewright recipe",
        "type": "object",
        "properties": properties,
        "required": ["model", "data"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _choice(kind: str, word: str, section: Any) -> dict[str, Any]:
    options = []
    for method in catalog.methods(kind):
        made = section(method)
        made["properties"] = {word: {"const": method.name}, **made.get("properties", {})}
        made["required"] = [word, *made.get("required", [])]
        options.append(made)
    return {"anyOf": [{"enum": catalog.names(kind)}, *options]}


def _field(name: str, field: Any) -> dict[str, Any]:
    default = None if field.default is PydanticUndefined else field.default
    return {"name": name, "type": _type(field.annotation), "default": _plain(default), "help": field.description or ""}


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    # Bounds inside a container are told by its help, not by its type.
    return re.sub(r"Annotated\[(\w+), .*?\)\]\)?\]", r"\1", str(annotation).replace("typing.", ""))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return {str(k): _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value
