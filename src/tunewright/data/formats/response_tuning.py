"""Conversations learned without what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from tunewright.catalog import Paper
from tunewright.data.formats._conversations import asked, completion, conversation
from tunewright.data.formats.alpaca import Alpaca
from tunewright.data.formats.base import Beside, Format, Read, Values, text_of
from tunewright.data.records import Record, Turn
from tunewright.recipe import Reading


class ResponseTuning(Format):
    """Conversations, instructions or questions whose training rows hold the answers alone: every user turn is empty.

    For a conversation (u_1, a_1, ..., u_n, a_n) the loss is that of a_i given the chat marks and the answers before, with
    u_i = "". Marks, system turns, tools and answers stay as they are, so the same tokens are trained on. Held-out rows
    keep what was asked: they measure whether the model follows instructions it never saw, which is the finding of the
    paper. Rows always go through a chat template. Which rows are held out, and which are repetitions, is decided by the
    rows as they were read.

    When to use: to see how much of instruction following is format and style that the base model has already, and as
    the control arm of a comparison of instruction data. When not: for the best result; rows with instructions give it.
    """

    name: ClassVar[str] = "response_tuning"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="Instruction Following without Instruction Tuning", arxiv="2409.14254", card=3),
    )
    title: ClassVar[str] = "responses alone (conversations, instructions or questions)"
    required: ClassVar = (
        ("messages",), ("conversations",), ("instruction", "output"), ("prompt", "completion"), ("question", "answer"),
    )  # fmt: skip
    optional: ClassVar = ("input", "system", "tools")
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is the river?"},
            {"role": "assistant", "content": "Behind the hill."}, {"role": "user", "content": "And the mill?"},
            {"role": "assistant", "content": "Beside it."},
        ]},
        {"prompt": "2 + 2 =", "completion": "4"},
        {"question": "Who wrote it?", "answer": "Nobody knows."},
    )  # fmt: skip

    def read(self, values: Values, reading: Reading) -> Read:
        if values.get("messages") is not None or values.get("conversations") is not None:
            return conversation(values)
        if values.get("instruction") is not None:
            return Alpaca().read(values, reading)
        if values.get("prompt") is not None:
            return replace(completion(values), style="chat")
        return Read((*asked(values, "question"), Turn("assistant", text_of(values, "answer"))), "chat")

    @property
    def completes(self) -> bool:
        return True

    def completed(self, records: Sequence[Record], beside: Beside) -> list[list[Record]]:
        if beside.role == "eval":
            return [[record] for record in records]
        return [[replace(record, turns=tuple(map(_silent, record.turns)))] for record in records]


def _silent(turn: Turn) -> Turn:
    return replace(turn, content="") if turn.role == "user" else turn
