"""Each field has an effect: an option that changes nothing is a defect.

Every field declares where its effect shows, a second value, and what must be set for it to matter
(`tunewright.catalog.option`). Here a tiny run is made with and without the second value, and the declared observable
must differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tunewright import catalog
from tunewright.catalog import AnyMethod, Effect, Method
from tunewright.data.augment.base import Augment
from tunewright.data.formats.base import Format
from tunewright.decode.base import Decoder
from tunewright.errors import Fault
from tunewright.evaluate.base import Task
from tunewright.models.vocabulary.base import Vocabulary
from tunewright.testing.augment import observe_augment
from tunewright.testing.decoders import observe_decoder
from tunewright.testing.formats import observe_rows
from tunewright.testing.models import tiny
from tunewright.testing.runs import Parts, Steps, tiny_loop, usual_parts
from tunewright.testing.tasks import observe_task
from tunewright.testing.vocabularies import observe_vocabulary

Observed = Mapping[str, Any]
"""Observable -> what a run showed of it; two values are the same when they are equal."""

Observe = Callable[[Parts], Observed]
"""Makes the tiny run with these methods and says what it showed."""


class OneField(NamedTuple):
    """A field of a method or recipe section; `to` is its declared effect, if any."""

    owner: type[BaseModel]
    name: str
    info: FieldInfo
    to: Effect | None

    @property
    def label(self) -> str:
        """OWNER.FIELD, with the method's name for a method."""
        return f"{getattr(self.owner, 'name', self.owner.__name__)}.{self.name}"


def fields_of(owner: type[BaseModel]) -> Iterator[OneField]:
    """Every field of a method or recipe section with its declared effect."""
    for name, info in owner.model_fields.items():
        yield OneField(owner, name, info, catalog.effect(info))


def observe_loop(parts: Parts) -> Observed:
    """What a short run of the loop shows: losses, trained numbers, optimizer steps, gradients, bytes of state."""
    steps = Steps()
    try:
        loop = tiny_loop(parts, model=tiny("llama"), hooks=[steps], steps=16)
        loop.run()
    except Fault as fault:
        return {"error": str(fault)}
    moments = [v for state in loop.optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    return {
        "loss": [step.loss for step in steps.done],
        "gradient": [step.gradient_norm for step in steps.done],
        "parameters": sorted((name, tuple(p.shape)) for name, p in loop.attached.trained().items()),
        "steps": len(steps.done),
        "tokens": loop.state.tokens,
        "bytes": sum(v.nbytes for v in [*moments, *loop.attached.state().values()]),
        "log": ([step.parts for step in steps.done], [hook.state() for hook in loop.hooks]),
        "error": "",
    }


OBSERVERS: dict[str, Observe] = {
    "adapter": observe_loop,
    "objective": observe_loop,
    "optimizer": observe_loop,
    "schedule": observe_loop,
    "layers": observe_loop,
    "regularizer": observe_loop,
    "quantizer": observe_loop,
    "context": observe_loop,
    "vocabulary": lambda parts: observe_vocabulary(cast(Vocabulary, parts["vocabulary"])),
    "order": observe_loop,
    "format": lambda parts: observe_rows(cast(Format, parts["format"])),
    "augment": lambda parts: observe_augment(cast(Augment, parts["augment"])),
    "decoder": lambda parts: observe_decoder(cast(Decoder, parts["decoder"])),
    "task": lambda parts: observe_task(cast(Task, parts["task"])),
}
"""Kind of method -> how a run with it is observed; a kind without a line here is observed by its own tests."""


def assert_method_field_has_effect(field: OneField, observe: Observe | None = None) -> None:
    """Raises `AssertionError` unless changing a method's field changes the observable it declares."""
    method: Any = field.owner
    effect = field.to
    assert field.info.description, f"{field.label} is not documented"
    assert effect is not None, f"{field.label} declares no effect: make it with `option`"
    assert effect.second is not None, f"{field.label} has no second value, so it needs a test of its own"
    parts: dict[str, Any] = usual_parts()
    parts[method.kind] = _changed(usual(method, _given(effect, method.kind)), _given(effect, method.kind))
    for kind in set(parts) - {method.kind}:
        parts[kind] = _changed(parts[kind], _given(effect, kind))
    second = {**parts, method.kind: _changed(parts[method.kind], {field.name: effect.second})}
    assert second[method.kind] != parts[method.kind], f"{field.label}: the second value is the first"
    look = observe or OBSERVERS[method.kind]
    assert_differs(field.label, effect, *_twice(look, parts), look(second))


def usual(method: type[AnyMethod], given: Mapping[str, Any] | None = None) -> AnyMethod:
    """The method with its defaults; what it requires has the value `given`, or the second value it declares."""
    needed = {field.name: field.to.second for field in fields_of(method) if field.info.is_required() and field.to}
    return method(**{**needed, **(given or {})})


def assert_differs(label: str, effect: Effect, one: Observed, again: Observed, other: Observed) -> None:
    """Raises `AssertionError` unless `other` shows another value of the observable, and `again` the same as `one`."""
    seen = effect.observable
    failed = [shown["error"] for shown in (one, other) if shown["error"] and seen != "error"]
    assert not failed, f"{label} = {effect.second!r}: a run ends with {failed[0]}"
    assert seen in one and seen in other, f"{label}: the run shows nothing of '{seen}'"
    assert one.get(seen) == again.get(seen), f"{label}: '{seen}' differs between two equal runs"
    assert one.get(seen) != other.get(seen), f"{label} = {effect.second!r} changes nothing about '{seen}'"


_seen: dict[tuple[int, str], tuple[Observed, Observed]] = {}


def _twice(look: Observe, parts: Parts) -> tuple[Observed, Observed]:
    """Two runs with the same methods; fields of one method share them."""
    key = (id(look), repr(sorted((kind, method.name, repr(method)) for kind, method in parts.items())))
    if key not in _seen:
        _seen[key] = (look(parts), look(parts))
    return _seen[key]


def _given(effect: Effect, kind: str) -> dict[str, Any]:
    key = {"task": "evaluate"}.get(kind, kind)
    return {k.removeprefix(f"{key}."): v for k, v in effect.given.items() if k.startswith(f"{key}.")}


def _changed(method: Method, values: Mapping[str, Any]) -> Method:
    """The method with other values, checked as a recipe's are."""
    try:
        return type(method)(**{**method.model_dump(), **values})
    except ValidationError as error:
        raise AssertionError(f"{method.name}: a declared second value is not valid: {error}") from None
