"""A whole recipe: what is tuned, on what, how, and what counts as proof. Validated before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import SerializeAsAny

from tunewright.catalog import Method
from tunewright.document import Document, Keys, Place
from tunewright.errors import BadInput
from tunewright.recipe.resolving import resolved
from tunewright.recipe.sections import SLOTS, DataSpec, ModelSpec, Section, TrainSpec


class Recipe(Section):
    """A whole run. `Recipe.read(path)` and `Recipe.of(model=..., data=...)` make one."""

    model: ModelSpec
    data: DataSpec
    adapter: SerializeAsAny[Method]
    objective: SerializeAsAny[Method]
    optimizer: SerializeAsAny[Method]
    schedule: SerializeAsAny[Method]
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
        return Recipe.model_construct(**resolved(document), origin=document.origin)

    def fault(self, place: Place, message: str, **details: Any) -> BadInput:
        """The error that names file, line and field of a key of this recipe."""
        return Document({}, self.origin.file, self.origin.lines).fault(place, message, **details)

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the training rows that the recipe's methods read -> those methods, in words."""
        wanted: dict[str, list[str]] = {}
        for kind in SLOTS:
            method: Method = getattr(self, kind)
            for name in method.columns:
                wanted.setdefault(name, []).append(f"the {kind} '{method.name}'")
        return {name: " and ".join(wanted[name]) for name in sorted(wanted)}

    def plain(self) -> dict[str, Any]:
        """The resolved recipe with every default written out, as YAML can hold it."""
        # `split` beside rows of eval is refused: it would say nothing.
        apart = {"split"} if self.data.eval else set()
        return {
            "model": self.model.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json", exclude=apart),
            **{kind: _plain_method(getattr(self, kind)) for kind in SLOTS},
            "train": self.train.model_dump(mode="json"),
            "evaluate": [_plain_method(task) for task in self.evaluate],
            **({"use": list(self.use)} if self.use else {}),
        }


def _plain_method(method: Method) -> dict[str, Any]:
    word = "task" if method.kind == "task" else "method"
    return {word: method.name, **method.model_dump(mode="json")}
