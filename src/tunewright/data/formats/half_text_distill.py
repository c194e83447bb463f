"""Halves of plain texts as turns of a conversation."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from tunewright.catalog import Need, Paper, option
from tunewright.data.formats.base import Beside, Format, Read, Values, text_of
from tunewright.data.records import Record, Turn
from tunewright.recipe import Reading


class HalfTextDistill(Format):
    """Plain text as a conversation: its first half asks, a stronger model's continuation answers.

    A text is cut at the blank nearest to its middle (the left one on a tie); the blank opens the second half, so first +
    second = text, and a text without a blank inside is left out. What is learned is the continuation without its outer
    blanks: that of `supplies: {teacher: MODEL}`, which sees `request` as the system turn and the first half as the
    user's, and writes at most as many tokens as the second half has. Empty answers and refusals are left out. `original`
    learns the text's own second half, `self` the continuation of the model that is tuned: the paper's two controls.
    Continuations are made once and kept with the prepared data. Long texts are clipped by words, since a row is read
    without a tokenizer.

    When to use: to teach a base model to answer in a stronger model's manner where there are texts and no instructions.
    When not: with instruction data at hand. Texts that hold instructions themselves would explain the effect away:
    compare with `instructions: remove`; the column `instructed` marks them otherwise.
    """

    name: ClassVar[str] = "half_text_distill"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Non-instructional Fine-tuning: Enabling Instruction-Following Capabilities in Pre-trained Language "
            "Models without Instruction-Following Data",
            arxiv="2409.00096",
            card=27,
        ),
    )
    title: ClassVar[str] = "halves of plain text (text)"
    required: ClassVar = (("text",),)
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"text": "Once upon a time there was a fox. It lived in a wood behind the hill and slept all day."},
        {"text": "Write a letter to the mayor about the bridge, and tell him that nobody can cross it any more."},
        {"text": "Unsplittable"},
    )

    variant: Literal["teacher", "original", "self"] = option(
        "teacher", "Whose continuation is learned: a teacher's, the text's own, or that of the model to be tuned.",
        changes="tokens", to="original",
    )  # fmt: skip
    split: float = option(
        0.5, "Where the text is cut, as a share of its length.", changes="tokens", to=0.25, gt=0, lt=1
    )
    max_words: int | None = option(700, "Words a text is clipped to; null for all.", changes="tokens", to=8, ge=2)
    request: str = option(
        "Continue the text.", "System turn before the first half, for the writing model alone; empty for none.",
        changes="tokens", to="Go on.",
    )  # fmt: skip
    temperature: float = option(1.0, "Temperature of the continuations.", changes="tokens", to=0.0, ge=0)
    instructions: Literal["keep", "remove"] = option(
        "keep", "What happens to texts that look like instructions or dialogue.", changes="tokens", to="remove"
    )
    seed: int = option(0, "Seed of the continuations.", changes="tokens", to=1, ge=0)

    def read(self, values: Values, reading: Reading) -> Read | None:
        text = clipped(text_of(values, "text"), self.max_words)
        parts, instructed = halves(text, self.split), looks_instructed(text)
        if parts is None or (instructed and self.instructions == "remove"):
            return None
        turns = (Turn("user", parts[0]), Turn("assistant", parts[1].strip()))
        return Read(turns, "chat", columns={"instructed": float(instructed)})

    @property
    def writer(self) -> Literal["teacher", "model"] | None:
        return {"teacher": "teacher", "self": "model"}.get(self.variant)  # type: ignore[return-value]

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"teacher"} if self.writer == "teacher" else ())

    @property
    def completes(self) -> bool:
        return self.writer is not None

    def completed(self, records: Sequence[Record], beside: Beside) -> list[list[Record]]:
        assert beside.write is not None
        opening = (Turn("system", self.request),) if self.request else ()
        drawn = random.Random(f"{self.seed} {records[0].prompt[0].content}").getrandbits(31) if records else 0
        asked = [replace(record, turns=(*opening, *record.turns)) for record in records]
        said = [text.strip() for text in beside.write(asked, self.temperature, drawn)]
        return [
            [replace(record, turns=(*record.prompt, replace(record.turns[-1], content=text)))]
            if text and not refuses(text)
            else []
            for record, text in zip(records, said, strict=True)
        ]


def clipped(text: str, words: int | None) -> str:
    """The text up to the end of its `words`-th word."""
    match = re.match(rf"(?:\s*\S+){{0,{words}}}", text) if words is not None else None
    return match[0] if match else text


def halves(text: str, share: float = 0.5) -> tuple[str, str] | None:
    """The text in two at the blank nearest to `share` of its length; None without a blank inside."""
    middle, begin, end = share * len(text), len(text) - len(text.lstrip()), len(text.rstrip())
    inside = [place for place in range(begin, end) if text[place] == " "]
    if not inside:
        return None
    cut = min(inside, key=lambda place: (abs(place - middle), place))
    return text[:cut], text[cut:]


_INSTRUCTED = re.compile(
    r"^\s*(user|human|assistant|system|instruction|question|answer|q|a)\s*:"
    r"|^\s*(please|write|explain|describe|list|summari[sz]e|translate|rewrite|generate|create|give me|tell me|answer)\b"
    r"|^\s*(how (do|can|should)|what (is|are)|why (is|are|do|does)|can you|could you)\b.*\?",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSES = re.compile(r"(i'm sorry|i am sorry|sorry,|i can(no|')t|i'm unable|i am unable|as an ai\b)", re.IGNORECASE)


def looks_instructed(text: str) -> bool:
    """Whether a line of the text opens as an instruction, a question to an assistant, or a turn of a dialogue."""
    return _INSTRUCTED.search(text) is not None


def refuses(text: str) -> bool:
    """Whether an answer opens as a refusal."""
    return _REFUSES.match(text) is not None
