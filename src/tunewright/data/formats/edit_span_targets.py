"""Rewriting learned as edits over the words of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunewright.catalog import Paper, option
from tunewright.data.edits import Align, edits, numbered, written
from tunewright.data.formats._conversations import opening
from tunewright.data.formats.base import Format, Read, Values, text_of
from tunewright.data.records import Turn
from tunewright.recipe import Reading


class EditSpanTargets(Format):
    """A `source` and its rewritten `target`, learned as the edits that lead from the one to the other.

    The answer is "start end replacement" for each edit, joined by ", ": words start to end (from 0, end excluded) are
    replaced, start = end inserts, the word None deletes; "None" alone leaves the text as it is. Edits are ordered, and
    at least one kept word stands between two. A replacement with a comma, a double quote or a backslash, and the word
    None itself, stands as a JSON string, so that every target can be rebuilt. Words are what blanks separate; the rebuilt
    text joins them by single blanks. The task `edit_match` applies the answers and judges the rebuilt text. Units are
    words alone: positions over a model's own tokens would tie the rows to one tokenizer.

    When to use: corrections, small rewrites of long texts: answers are short and fast, and the model need not copy. When
    not: translation, summaries, free rewriting, where edits are longer than the text. A small model cannot count words:
    set `show_indices`.
    """

    name: ClassVar[str] = "edit_span_targets"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Reducing Sequence Length by Predicting Edit Operations with Large Language Models",
            arxiv="2305.11862",
            card=180,
        ),
    )
    title: ClassVar[str] = "edits (source/target)"
    required: ClassVar = (("source", "target"),)
    optional: ClassVar = ("instruction", "system")
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"source": "She go to school every days", "target": "She goes to school every day"},
        {"source": "the cat sat on on the mat", "target": "The cat sat on the mat ."},
        {"source": "the big red dog", "target": "the small dog red"},
        {"source": "Nothing to do here", "target": "Nothing to do here"},
    )

    show_indices: bool = option(False, "Write its number before each word of the source.", changes="tokens", to=True)
    instruction: str = option(
        "", "Text before the source; a row's own `instruction` comes first.", changes="tokens", to="Correct the text."
    )
    align: Align = option(
        "difflib", "How words are matched: `difflib` keeps the longest runs, `cost` finds the cheapest edits.",
        changes="tokens", to="cost",
    )  # fmt: skip

    def read(self, values: Values, reading: Reading) -> Read:
        source, target = text_of(values, "source").split(), text_of(values, "target").split()
        asked = numbered(source) if self.show_indices else " ".join(source)
        instruction = text_of(values, "instruction") if values.get("instruction") else self.instruction
        turns = (
            *opening(values),
            Turn("user", f"{instruction}\n\n{asked}" if instruction else asked),
            Turn("assistant", written(edits(source, target, self.align))),
        )
        return Read(turns, "chat", columns={"source": " ".join(source), "target": " ".join(target)})
