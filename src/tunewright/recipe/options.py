"""Given keys and values as a checked section or method, every fault told at its place in the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tunewright.document import Document, Place
from tunewright.errors import nearest


def checked(document: Document, cls: Any, value: Any, at: Place, extra: tuple[str, ...] = ()) -> Any:
    """`value` (options, or the object itself) as a `cls`; `extra` are keys known beside those of `cls`.

    Raises `BadInput` for a key that is not known, one that is missing, and a value that cannot be used.
    """
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise document.fault(at, "not a set of options", found=value, expected="options, as {key: value}")
    for key, item in value.items():
        if isinstance(item, bool) and _is_number(cls.model_fields.get(key)):
            raise document.fault((*at, key), "not usable", found=item, expected="a number")
    try:
        return cls(**{str(key): _names_as_text(cls, key, item) for key, item in value.items()})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        loc = (*at, *fault["loc"])
        if fault["type"] == "extra_forbidden":
            inner = _model_at(cls, fault["loc"][:-1])
            known = [*inner.model_fields, *(extra if inner is cls else ())]
            unknown = str(fault["loc"][-1])
            raise document.fault(
                loc, "unknown key", hint=nearest(unknown, known) or f"Known: {', '.join(known) or 'none'}."
            ) from None
        if fault["type"] == "missing":
            raise document.fault(at, f"lacks '{fault['loc'][-1]}'", hint=f"Add '{fault['loc'][-1]}: ...'.") from None
        if fault["type"] == "value_error":
            raise document.fault(loc, str(fault["ctx"]["error"])) from None
        message = fault["msg"].replace("Input should be", "", 1).strip()
        raise document.fault(loc, "not usable", found=fault["input"], expected=message) from None


def _is_number(field: FieldInfo | None) -> bool:
    return field is not None and bool({int, float} & {field.annotation, *get_args(field.annotation)})


def _names_as_text(cls: Any, key: Any, item: Any) -> Any:
    """Keys and values of word maps (`labels: {0: negative}`) are text whatever YAML made of them."""
    field = cls.model_fields.get(key)
    if field is not None and field.annotation == dict[str, str] and isinstance(item, Mapping):
        return {_word(name): _word(value) for name, value in item.items()}
    return item


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _model_at(cls: Any, path: tuple[int | str, ...]) -> Any:
    for step in path:
        field = cls.model_fields.get(step) if isinstance(step, str) else None
        inner = field.annotation if field else None
        options = [inner, *getattr(inner, "__args__", ())]
        cls = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), cls)
    return cls
