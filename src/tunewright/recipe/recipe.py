"""A whole recipe: what is tuned, on what, how, and what counts as proof. Validated before any work begins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import SerializeAsAny

from tunewright.catalog import Method
from tunewright.document import Document, Keys, Place
from tunewright.errors import BadInput
from tunewright.recipe.composition import clashes
from tunewright.recipe.resolving import resolved
from tunewright.recipe.sections import LISTS, NESTED, OPTIONAL, SLOTS, DataSpec, ModelSpec, Reading, Section, TrainSpec


class Recipe(Section):
    """A whole run. `Recipe.read(path)` and `Recipe.of(model=..., data=...)` make one."""

    model: ModelSpec
    data: DataSpec
    adapter: SerializeAsAny[Method]
    objective: SerializeAsAny[Method]
    optimizer: SerializeAsAny[Method]
    schedule: SerializeAsAny[Method]
    layers: SerializeAsAny[Method] | None = None
    regularize: tuple[SerializeAsAny[Method], ...] = ()
    decode: tuple[SerializeAsAny[Method], ...] = ()
    supplies: dict[str, str] = {}
    train: TrainSpec
    evaluate: tuple[SerializeAsAny[Method], ...]
    use: tuple[str, ...] = ()
    origin: Keys

    @staticmethod
    def read(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
        """The recipe in a YAML (or JSON) file, after `changes` of the form `key.key=value`.

        Raises `BadInput` naming file, line and field of the first fault.
        """
        return Recipe._resolved(Document.read(Path(path)).changed(changes))

    @staticmethod
    def of(**keys: Any) -> Recipe:
        """The recipe with these keys, as in a file; methods may also be given as objects."""
        return Recipe._resolved(Document(keys))

    @staticmethod
    def _resolved(document: Document) -> Recipe:
        made = Recipe.model_construct(**resolved(document), origin=document.origin)
        tasks: dict[Place, Method] = {("evaluate", place): task for place, task in enumerate(made.evaluate)}
        for clash in clashes(made.methods | tasks, made.supplies):
            raise made.fault(clash.place, clash.reason, hint=clash.hint)
        mixing = next((method for method in made.methods.values() if not method.packs), None)
        if mixing and made.data.packing == "on":
            raise made.fault(
                ("data", "packing"), f"the {mixing.kind} '{mixing.name}' would mix packed records",
                hint="Use 'packing: auto' or 'off'.",
            )  # fmt: skip
        return made

    def fault(self, place: Place, message: str, **details: Any) -> BadInput:
        """The error that names file, line and field of a key of this recipe."""
        return Document({}, self.origin.file, self.origin.lines).fault(place, message, **details)

    @property
    def methods(self) -> dict[Place, Method]:
        """Every method of the recipe but its tasks, by place."""
        alone: dict[Place, Method | None] = {(kind,): getattr(self, kind) for kind in (*SLOTS, *OPTIONAL)}
        nested: dict[Place, Method | None] = {place: getattr(getattr(self, place[0]), place[1]) for place in NESTED}
        listed: dict[Place, Method | None] = {
            (key, index): method for key in LISTS for index, method in enumerate(getattr(self, key))
        }
        return {place: one for place, one in (alone | nested | listed | self._reading).items() if one is not None}

    @property
    def _reading(self) -> dict[Place, Method | None]:
        """The formats and augmentations that the data names, each under the first key that names it."""
        found: dict[Place, Method | None] = {}
        listed: list[tuple[Place, Reading]] = [(("data",), self.data)]
        for key, sources in (("sources", self.data.sources), ("eval", self.data.eval)):
            listed += [(("data", key, index), source) for index, source in enumerate(sources)]
        for place, reading in listed:
            named: dict[Place, Any] = {(*place, "format"): reading.format}
            named |= {(*place, "augment", number): one for number, one in enumerate(reading.augment)}
            found |= {at: one for at, one in named.items() if isinstance(one, Method) and one not in found.values()}
        return found

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the training rows that the recipe's methods read -> those methods, in words."""
        wanted: dict[str, list[str]] = {}
        for method in self.methods.values():
            for name in method.columns:
                wanted.setdefault(name, []).append(f"the {method.kind} '{method.name}'")
        return {name: " and ".join(wanted[name]) for name in sorted(wanted)}

    def plain(self) -> dict[str, Any]:
        """The resolved recipe with every default written out, as YAML can hold it."""
        # `split` beside rows of eval is refused: it would say nothing.
        apart = {"split"} if self.data.eval else set()
        optional = {key: getattr(self, key) for key in OPTIONAL}
        return {
            "model": _plain_section(self.model, "model"),
            "data": _plain_section(self.data, "data", apart),
            **{kind: _plain_method(getattr(self, kind)) for kind in SLOTS},
            **{key: _plain_method(method) for key, method in optional.items() if method is not None},
            **{key: [_plain_method(one) for one in getattr(self, key)] for key in LISTS if getattr(self, key)},
            **({"supplies": dict(self.supplies)} if self.supplies else {}),
            "train": self.train.model_dump(mode="json"),
            "evaluate": [_plain_method(task) for task in self.evaluate],
            **({"use": list(self.use)} if self.use else {}),
        }


def _plain_section(section: Section, name: str, apart: Collection[str] = ()) -> dict[str, Any]:
    """The section's keys; methods that are not set are left out."""
    methods = {key: getattr(section, key) for where, key in NESTED if where == name}
    plain = section.model_dump(mode="json", exclude={*apart, *methods})
    return plain | {key: _plain_method(method) for key, method in methods.items() if method is not None}


def _plain_method(method: Method) -> dict[str, Any]:
    word = "task" if method.kind == "task" else "method"
    return {word: method.name, **method.model_dump(mode="json")}
