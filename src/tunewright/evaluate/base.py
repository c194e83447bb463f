"""What is measured and on what: the protocol of tasks, the subject they measure, and the scores they give."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from tunewright import catalog
from tunewright.catalog import Method, option
from tunewright.data.records import Record
from tunewright.data.table import Table
from tunewright.decode.base import Decoder
from tunewright.document import Keys
from tunewright.errors import BadInput, nearest
from tunewright.models.embedding import Embed
from tunewright.models.generate import Decoding, LogitsProcessor
from tunewright.models.policy import Policy

Role = Literal["target", "retention", "other"]
"""What a measure speaks about: the task that is tuned, what should not change, or neither."""

Unit = Literal["share", "nats", "tokens", "score"]
"""A share is between 0 and 1 and shown in points; nats are per token."""

Floats = NDArray[np.float64]


class Rendered(Protocol):
    """A record as tokens: `ids` [n], loss `weights` [n]."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def weights(self) -> Sequence[float]: ...


class Renderer(Protocol):
    """Turns records into tokens, as training did; `mode` says whether a chat template does."""

    def render_many(self, records: Sequence[Record]) -> Sequence[Rendered]: ...
    def prompt(self, record: Record) -> Sequence[int]: ...
    def mode(self, record: Record) -> Literal["chat", "verbatim"]: ...


@dataclass(frozen=True)
class Rows:
    """Evaluation records, the renderer of each source (by `record.source`), and the rendered table where it exists."""

    records: Sequence[Record]
    renderers: Sequence[Renderer]
    table: Table | None = None
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def renderer(self, record: Record) -> Renderer:
        """The renderer of the record's source."""
        return self.renderers[record.source]

    def source(self, record: Record) -> str:
        """The name of the record's source."""
        return self.sources[record.source] if self.sources else str(record.source)

    def spread(self, limit: int | None) -> NDArray[np.int64]:
        """Indices of at most `limit` rows, evenly spaced, so that a sorted file is not judged by its beginning."""
        if limit is None or limit >= len(self):
            return np.arange(len(self))
        return np.linspace(0, len(self) - 1, limit).round().astype(np.int64)

    def taken(self, indices: NDArray[np.int64]) -> Rows:
        """The rows at `indices`."""
        table = None if self.table is None else tabulated(_sequence(self.table, i) for i in indices.tolist())
        return replace(self, records=[self.records[i] for i in indices], table=table)

    def rendered(self, records: Sequence[Record]) -> list[Rendered]:
        """Each record as tokens, by the renderer of its source."""
        made: dict[int, Rendered] = {}
        for number in {record.source for record in records}:
            own = [index for index, record in enumerate(records) if record.source == number]
            made |= zip(own, self.renderers[number].render_many([records[index] for index in own]), strict=True)
        return [made[index] for index in range(len(records))]


@dataclass(frozen=True)
class Subject:
    """A model under measurement, and the rows it is measured on.

    `rows` are those of `data.eval`. `read` gives the rows of a task's own data from its reading options (`path`,
    `format`, `fields`, `labels`) and whether they are read like the training data. `examples` are training records for
    few-shot prompts, `pool` those that tasks draw demonstrations from; `decoders` gives what acts on answers, nothing
    while the adapter is off. At most `batch_tokens` positions are computed at once (generation holds eight times as
    many), `limit` bounds the rows of every task. `embedded` says that the model is the embedded one, whose retention
    text is known. `stop` are the ids that end an answer. `embed` gives texts vectors.
    """

    policy: Policy
    tokenizer: Any
    rows: Rows
    stop: frozenset[int]
    read: Callable[[Mapping[str, Any], bool], Rows] | None = None
    examples: Sequence[Record] = ()
    pool: Sequence[Record] = ()
    batch_tokens: int = 2048
    limit: int | None = None
    embedded: bool = False
    origin: Keys = field(default_factory=lambda: Keys(None, {}))
    decoders: Callable[[], Sequence[Decoder]] = tuple
    embed: Embed | None = None

    def processors(self, prompts: Sequence[Sequence[int]]) -> tuple[LogitsProcessor, ...]:
        """What the decoders do while these prompts (token ids) are answered."""
        return tuple(one.processor(self.tokenizer, prompts, self.stop) for one in self.decoders())

    def decoding(self, prompts: Sequence[Sequence[int]], new: int, *last: LogitsProcessor) -> Decoding:
        """Greedy answers of at most `new` tokens to these prompts, through the decoders and then `last`."""
        return Decoding(max_new_tokens=new, stop=self.stop, processors=(*self.processors(prompts), *last))


class Further(NamedTuple):
    """Another quantity of the same examples: its values [n], and how they are read."""

    values: Floats
    unit: Unit
    higher_is_better: bool


class Grid(NamedTuple):
    """Numbers of all examples together, by rows and columns; None where there is none."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Scores:
    """What a task found, one value per example, so that two models can be compared pair by pair.

    `values` [n] and `weights` [n]: the score is Sum(w x) / Sum(w). `ids` name the examples. Where answers were
    generated: `prompts`, `answers`, `references` [n], `stopped` [n] (ended by itself) and `lengths` [n] in tokens.
    Where answers have probabilities: `confidences` [n] of the chosen one and `correct` [n]. `groups` [n] is the source
    of each example. `further` are other quantities by name, `grids` tables that a reader sees for both
    models, `details` numbers, `notes` what a reader must know.
    """

    name: str
    metric: str
    role: Role
    unit: Unit
    higher_is_better: bool
    values: Floats
    weights: Floats
    ids: list[str]
    prompts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    stopped: NDArray[np.bool_] | None = None
    lengths: NDArray[np.int64] | None = None
    confidences: Floats | None = None
    correct: NDArray[np.bool_] | None = None
    groups: list[str] = field(default_factory=list)
    further: Mapping[str, Further] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The weighted mean of the values."""
        return float(np.average(self.values, weights=self.weights))


class Task(Method):
    """Something to measure: rows, what the model does with them, and a value for each.

    `generates` says that answers are generated; `like_training` that own rows are read with the options of the
    training data, unless the task names options itself.
    """

    kind: ClassVar[str] = "task"
    role: ClassVar[Role] = "target"
    generates: ClassVar[bool] = False
    like_training: ClassVar[bool] = True

    data: str | None = option(
        None, "Rows of its own; default those of data.eval.", changes="output", to="classes.jsonl"
    )
    format: str | None = option(
        None, "Format of the own rows, when it is not recognised.", changes="output", to="text",
        given={"evaluate.data": "both.jsonl"},
    )  # fmt: skip
    fields: dict[str, str] = option(
        {}, "Our field name -> the name in the own rows.", changes="output",
        to={"prompt": "completion", "completion": "prompt"}, given={"evaluate.data": "both.jsonl"},
    )  # fmt: skip
    labels: dict[str, str] = option(
        {}, "Class value in the own rows -> the words the model is to answer.", changes="output",
        to={"yes": "it is", "no": "it is not"}, given={"evaluate.data": "classes.jsonl"},
    )  # fmt: skip
    limit: int | None = option(None, "Measure on at most this many rows, evenly spaced.", changes="output", to=2, ge=1)

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        known = ["auto", *catalog.names("format")]
        if value is not None and value not in known:
            raise ValueError(f"unknown format '{value}'. {nearest(value, known) or 'Known: ' + ', '.join(known)}")
        return value

    @abstractmethod
    def score(self, subject: Subject) -> Scores:
        """The scores of the subject on this task. Raises `BadInput` for rows the task cannot use."""

    def omitted(self, subject: Subject) -> str | None:
        """Why the task cannot be measured on this subject and is left out, or None."""
        return None

    def all_rows(self, subject: Subject) -> Rows:
        """The task's own rows, else those of `data.eval`."""
        if self.data is None:
            return subject.rows
        if subject.read is None:
            raise BadInput("rows of its own cannot be read here", field="data", found=self.data)
        given = {"path": self.data, "format": self.format, "fields": self.fields, "labels": self.labels}
        return subject.read({key: value for key, value in given.items() if value}, self.like_training)

    def rows(self, subject: Subject) -> Rows:
        """`all_rows` within the limits of task and subject. Raises `BadInput` when there is none."""
        rows = self.all_rows(subject)
        if not len(rows):
            raise BadInput(f"the task '{self.name}' has no rows", field="evaluate", expected="at least one row")
        limits = [limit for limit in (self.limit, subject.limit) if limit is not None]
        chosen = rows.spread(min(limits, default=None))
        return rows if len(chosen) == len(rows) else rows.taken(chosen)


def answered(record: Record, text: str) -> Record:
    """The record with another answer."""
    return replace(record, turns=(*record.turns[:-1], replace(record.turns[-1], content=text)))


def prompt_text(record: Record) -> str:
    """The prompt as a person reads it."""
    return "\n".join(turn.content for turn in record.prompt)


def _sequence(table: Table, index: int) -> tuple[Sequence[int], Sequence[float]]:
    part = slice(int(table.starts[index]), int(table.starts[index + 1]))
    return table.ids[part], table.weights[part]  # type: ignore[return-value]


def tabulated(sequences: Iterable[tuple[Sequence[int], Sequence[float]]]) -> Table:
    """A table of (ids, weights) pairs; the first weight of each is taken as 0."""
    pairs = list(sequences)
    weights = [np.asarray(w, dtype=np.float32).copy() for _, w in pairs]
    for row in weights:
        row[:1] = 0.0
    return Table(
        ids=np.concatenate([np.asarray(ids, dtype=np.int32) for ids, _ in pairs] or [np.zeros(0, np.int32)]),
        weights=np.concatenate(weights or [np.zeros(0, np.float32)]),
        starts=np.concatenate([[0], np.cumsum([len(ids) for ids, _ in pairs])]).astype(np.int64),
    )
