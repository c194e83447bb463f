"""The second pass, of formats that draw on other rows or ask a model and of augmentations: from records as read to
those trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from tunewright.data.augment.base import Around, Augment
from tunewright.data.formats.base import Beside, Format, Writer
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.recipe import Recipe, SourceSpec


def completing(source: SourceSpec) -> Format | None:
    """The format of a source that has a second pass, else None."""
    form = source.format
    return form if isinstance(form, Format) and form.completes else None


def augmenting(source: SourceSpec) -> tuple[Augment, ...]:
    """The augmentations of a source, in the order in which they act."""
    return cast(tuple[Augment, ...], source.augment)


def changed(source: SourceSpec) -> tuple[Format | Augment, ...]:
    """What gives the records of a source in the second pass; nothing where they are trained on as read."""
    form = completing(source)
    return (*([form] if form else []), *augmenting(source))


def gathers(source: SourceSpec) -> bool:
    """Whether the records of a source hold other training rows."""
    return any(one.gathers for one in changed(source))


def asked(recipe: Recipe) -> set[str]:
    """The models that the recipe's formats ask, as `Format.writer` names them."""
    sources = (*recipe.data.sources, *recipe.data.eval)
    return {form.writer for source in sources if (form := completing(source)) and form.writer}


@dataclass(frozen=True)
class Completion:
    """Completes records of a recipe's sources.

    `pools` holds the training records, as read, of each training source that `gathers`; `writers` the models that
    formats ask, by the name in `Format.writer`.
    """

    sources: Sequence[SourceSpec] = ()
    writers: Mapping[str, Writer] = field(default_factory=dict)
    pools: dict[int, list[Record]] = field(default_factory=dict)

    def of(
        self,
        source: SourceSpec,
        number: int | None,
        records: Sequence[Record],
        role: Literal["train", "eval"],
        mode: Callable[[Record], Literal["chat", "verbatim"]],
    ) -> list[list[Record]]:
        """For each record of a source those that stand in its place; `mode` is that of the source's renderer.

        Rows that are no training source's own (`number` None, or of evaluation rows) draw on every training source of
        the same format or augmentation. Raises `BadInput` where there is none, and where no model is at hand to ask.
        """
        made = self._completed(source, number, records, role) if records else []
        for method in augmenting(source) if records else ():
            around = Around(role, self._pool(method, number) if method.gathers else [], mode)
            made = [[new for one in each for new in method.augmented(one, around)] for each in made]
        return made

    def _completed(
        self, source: SourceSpec, number: int | None, records: Sequence[Record], role: Literal["train", "eval"]
    ) -> list[list[Record]]:
        form = completing(source)
        if form is None:
            return [[record] for record in records]
        if form.writer is not None and form.writer not in self.writers:
            raise BadInput(
                f"the format '{form.name}' needs a model to write with", field="format", expected=form.writer,
                hint="Only a run and a preview ask models.",
            )  # fmt: skip
        rows = self._pool(form, number) if form.gathers else []
        return form.completed(records, Beside(role, rows, self.writers.get(form.writer or "")))

    def _pool(self, method: Format | Augment, number: int | None) -> list[Record]:
        if number in self.pools:
            return self.pools[number]
        alike = [each for index, each in self.pools.items() if method in changed(self.sources[index])]
        if not alike:
            raise BadInput(
                f"no training source has this {method.kind}, whose prompts hold training rows", field=method.kind,
                found=method.name,
            )  # fmt: skip
        return [record for each in alike for record in each]
