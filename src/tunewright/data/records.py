"""One record type for every kind of row, and the named columns it may carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["chat", "completion", "text"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One part of a record: who speaks, what is said, and how much its tokens weigh in the loss.

    `role` is system, user, assistant or tool; a `text` record has one assistant turn. `weight` None leaves the
    choice to the recipe's `train_on`; a number (>= 0) overrides it for this turn. `reasoning` is what the assistant
    thought before `content`; `calls` are tool calls in the form {"type": "function", "function": {"name": str,
    "arguments": dict}}. `name` says who speaks within the role (of a tool: which), `answers` is the id of the tool
    call that a tool turn answers.
    """

    role: str
    content: str
    weight: float | None = None
    reasoning: str | None = None
    calls: tuple[Mapping[str, Any], ...] = ()
    name: str | None = None
    answers: str | None = None

    def message(self) -> dict[str, Any]:
        """The turn as chat templates read it."""
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            said["reasoning_content"] = self.reasoning
        if self.calls:
            said["tool_calls"] = [dict(call) for call in self.calls]
        if self.name is not None:
            said["name"] = self.name
        if self.answers is not None:
            said["tool_call_id"] = self.answers
        return said


Scored = tuple[tuple[Turn, ...], float]
"""A whole conversation that ends with an answer, and the answer's reward."""


@dataclass(frozen=True, slots=True)
class Record:
    """One training or evaluation example, whatever file and format it came from.

    `style` says how the turns become text: `chat` through the chat template, `completion` joined verbatim (prompt,
    then completion, then the end token), `text` as it is with the end token. The last turn is what is answered (the
    completion); `rejected` is the whole conversation with the worse answer of a preference pair (it begins with the
    same turns, so `replace(record, turns=record.rejected)` renders it); `label` is the class of a classification row
    (str) or the judgement of an unpaired row (bool). `weight` multiplies every token weight of the record.
    `source` is the index of the recipe's source, `file` and `line` say where the row stands (line 1 is the first;
    for a JSON array, Parquet file or data set, the row number). `columns` holds further named values of the row, for
    methods that need them. `scored` are all answers of a row that has several with rewards; `turns` has the best one
    then, and `rejected` the worst.
    """

    turns: tuple[Turn, ...]
    style: Style
    rejected: tuple[Turn, ...] | None = None
    label: str | bool | None = None
    weight: float = 1.0
    tools: tuple[Mapping[str, Any], ...] = ()
    source: int = 0
    file: str = ""
    line: int = 0
    columns: Mapping[str, Any] = field(default_factory=dict)
    scored: tuple[Scored, ...] = ()

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns before the final assistant turn (empty for plain text)."""
        return self.turns[:-1]

    @property
    def answer(self) -> str:
        """The text of the final turn."""
        return self.turns[-1].content

    @property
    def where(self) -> str:
        """`FILE:LINE`, as error messages and reports name the record."""
        return f"{self.file}:{self.line}"
