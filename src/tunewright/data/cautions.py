"""What is legal and still likely a mistake: warnings about prepared data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright import catalog
from tunewright.data.counts import SourceReport
from tunewright.data.parts import Part
from tunewright.data.templates import Renderer
from tunewright.document import Keys, Place
from tunewright.errors import BadInput
from tunewright.recipe import Recipe

ENDS = 0.99
"""Share of rows in which the end of the answer should be learned."""


def warnings(
    reports: Sequence[SourceReport], made_by: Sequence[Renderer], tokenizer: Any, limit: int | None
) -> list[str]:
    """Sentences for the user, those about the tokenizer first, then per source."""
    found = [*_tokenizer(tokenizer), *_templates(made_by)]
    for report in reports:
        found += [f"{report.name} ({report.role}): {text}" for text in _source(report, limit)]
    return found


def unread(recipe: Recipe, listed: Sequence[Part], reports: Sequence[SourceReport]) -> None:
    """Raises `BadInput` for options that only classification rows read, where there are none."""
    for name in ("labels", "prompt"):
        readers = {item.title for item in catalog.methods("format") if name in item.reads}  # type: ignore[attr-defined]
        read = [report.format in readers for report in reports]
        if getattr(recipe.data, name) and not any(read):
            raise _unread(recipe.origin, ("data", name), reports[0].format)
        for part, report, is_read in zip(listed, reports, read, strict=True):
            own = getattr(part.source, name)
            if own and own != getattr(recipe.data, name) and not is_read:
                raise _unread(recipe.origin, (*part.place, name), report.format)


def _unread(origin: Keys, place: Place, found: str) -> BadInput:
    return BadInput(
        "without effect: the rows are not classification", file=origin.file, line=origin.lines.get(place),
        field=".".join(map(str, place)), found=found, expected="rows with text and label",
        hint="Remove it, or name the text's field: 'fields: {text: NAME}'.",
    )  # fmt: skip


def _tokenizer(tokenizer: Any) -> list[str]:
    pad = tokenizer.pad_token_id
    named = {"end": tokenizer.eos_token_id, "begin": tokenizer.bos_token_id, "unknown": tokenizer.unk_token_id}
    same = [name for name, index in named.items() if pad is not None and index == pad]
    if not same:
        return []
    return [
        f"the pad token {tokenizer.pad_token} is also the {' and '.join(same)} token; harmless here, where padding is"
        " masked by position, but other tools may never teach the model to stop"
    ]


def _templates(made_by: Sequence[Renderer]) -> list[str]:
    found = []
    if any(renderer.writes_two_bos for renderer in made_by):
        found.append("the chat template writes two BOS tokens in a row; training follows it, as serving would")
    renderer = made_by[0]
    if renderer.drops_opening:
        opening = "".join(renderer.encoder.name(index) for index in renderer.encoder.prefix)
        found.append(f"the chat template does not begin with {opening}, which the tokenizer puts before other texts")
    if renderer.opens_otherwise:
        found.append(
            f"the chat template opens a generated answer with {renderer.opens_otherwise!r}, which it does not write in a"
            " conversation without it; write the rows so that answers begin so, or name another template"
        )
    tokens = [renderer.encoder.name(index) for index in renderer.stops]
    if len(tokens) > 1:
        found.append(
            f"answers end with {tokens[1]}, but the tokenizer's end token is {tokens[0]}; generation must stop at both"
        )
    return found


def _source(report: SourceReport, limit: int | None) -> list[str]:
    kept, found = report.kept, []
    if not kept:
        return [f"none of the {report.rows:,} rows is left"]
    if report.ends < ENDS * kept:
        found.append(
            f"the end of the answer is learned in only {report.ends:,} of {kept:,} rows; the model may not stop"
        )
    if report.long_prompts:
        found.append(f"{report.long_prompts:,} rows have a prompt that fills the limit of {limit} tokens by itself")
    if report.cut_answers:
        found.append(f"{report.cut_answers:,} rows lose part of their answer to the limit of {limit} tokens")
    if report.empty_answers:
        found.append(f"{report.empty_answers:,} rows have an empty answer; they teach the model to stop at once")
    if report.empty:
        found.append(f"{report.empty:,} rows have nothing to learn (every loss weight is 0) and are left out")
    for part, count in sorted(report.unsaid.items()):
        found.append(f"in {count:,} rows the chat template leaves out the {part}: the model never sees them")
    if report.unclean:
        found.append(f"in {report.unclean:,} rows a token reaches over the boundary between prompt and answer")
    return found
