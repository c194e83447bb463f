"""The Format protocol: how the rows of a file become records, alone or with the help of other rows or a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from tunewright.catalog import Method
from tunewright.data.records import Record, Scored, Style, Turn
from tunewright.errors import BadInput
from tunewright.recipe import Reading

Values = Mapping[str, Any]
"""The fields of a row, by their names in the format."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a format makes of a row: the turns and what belongs to them; `columns` join those of the row."""

    turns: tuple[Turn, ...]
    style: Style
    rejected: tuple[Turn, ...] | None = None
    label: str | bool | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    scored: tuple[Scored, ...] = ()


class Writer(Protocol):
    """A model that answers records for a format. `digest` identifies it."""

    @property
    def digest(self) -> str: ...
    def __call__(self, records: Sequence[Record], temperature: float, seed: int) -> list[str]:
        """An answer to each record's prompt, about as long as the record's own answer."""


@dataclass(frozen=True)
class Beside:
    """What stands beside the records that a format completes.

    `role` is that of the records; `rows` are the training records of their source as they were read, none of them held
    out (empty unless the format `gathers`); `write` is the model that the format's `writer` names.
    """

    role: Literal["train", "eval"]
    rows: Sequence[Record] = ()
    write: Writer | None = None


class Format(Method):
    """A way of writing rows. A row is of this format when it has all the fields of one of `required`.

    `title` names it in words; `optional` are further fields it reads. `precedence` says when `auto` tries it (lowest
    first; None: never). `reads` are the options of the source that it follows, beside those that all do (`labels`,
    `prompt`). `examples` are rows in it, for the documentation and the contract.

    What becomes of a row is decided in two passes. `read` sees one row and gives its record, by which duplicates are
    found and rows held out. Where `completes`, `completed` then gives the records to train (or measure) on in its
    place: for formats that draw on other rows (`gathers`), ask a model (`writer`), or treat training rows otherwise
    than held-out ones.
    """

    kind: ClassVar[str] = "format"
    title: ClassVar[str]
    required: ClassVar[tuple[tuple[str, ...], ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    precedence: ClassVar[int | None] = None
    reads: ClassVar[frozenset[str]] = frozenset()
    gathers: ClassVar[bool] = False
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()

    @classmethod
    def fits(cls, fields: Iterable[str]) -> bool:
        """Whether a row with these fields is of this format."""
        present = set(fields)
        return any(set(need) <= present for need in cls.required)

    @classmethod
    def fields(cls) -> frozenset[str]:
        """Every field the format reads."""
        return frozenset(name for need in cls.required for name in need) | frozenset(cls.optional)

    @abstractmethod
    def read(self, values: Values, reading: Reading) -> Read | None:
        """The turns of a row; None leaves it out. Raises `BadInput` naming the field that cannot be used."""

    @property
    def completes(self) -> bool:
        """Whether `completed` changes anything."""
        return False

    @property
    def writer(self) -> Literal["teacher", "model"] | None:
        """The model that writes part of the records: one supplied, or the recipe's own before tuning."""
        return None

    def completed(self, records: Sequence[Record], beside: Beside) -> list[list[Record]]:
        """For each record those that stand in its place; none leaves it out.

        A function of its arguments alone, and of each record for itself where no model writes.
        """
        return [[record] for record in records]


def text_of(values: Values, field: str) -> str:
    """The text in a field of a row; numbers count as their digits.

    Raises `BadInput` when the field is missing or holds anything else.
    """
    value = values.get(field)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is None:
        raise BadInput("missing", field=field, found=f"a row with {', '.join(values) or 'no fields'}", expected="text")
    raise BadInput("of the wrong type", field=field, found=value, expected="text")


def word(value: Any) -> str:
    """A class value as the recipe's `labels` name it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
