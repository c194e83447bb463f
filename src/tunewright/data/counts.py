"""What became of the rows of each source, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tunewright.errors import BadInput
from tunewright.recipe import Reading

BUDGET = 0.1
"""Largest share of rows that may be lost to length when neither `truncation` nor `max_lost` is set."""


@dataclass
class SourceReport:
    """Counts of one source for one role.

    `rows` = `kept` + `dropped` + `empty` + `duplicates` + `overlap` + `left_out` + `held_out`: `dropped` are longer
    than the limit, `empty` have nothing to learn, `overlap` also stand in the evaluation data, `left_out` the user's
    function or a `false` judgement leaves out, and `held_out` went to the evaluation data. `cut` counts kept rows that
    were shortened; `answers_lost` rows that lost every trained token to the limit; `number` is what `Record.source`
    says. `specials` counts each special token over all kept rows; `ends` the kept rows in which the end of an answer is
    learned; `unclean` those in which a token reaches over the boundary of prompt and answer; `unsaid` counts
    those of which the chat template drops a part, by that part in words.
    """

    number: int
    name: str
    path: str
    role: Literal["train", "eval"]
    format: str = ""
    template: str = ""
    rows: int = 0
    kept: int = 0
    cut: int = 0
    dropped: int = 0
    empty: int = 0
    duplicates: int = 0
    overlap: int = 0
    left_out: int = 0
    held_out: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    tokens_lost: int = 0
    answers_lost: int = 0
    longest: int = 0
    longest_at: str = ""
    long_prompts: int = 0
    cut_answers: int = 0
    empty_answers: int = 0
    ends: int = 0
    unclean: int = 0
    largest_id: int = 0
    specials: dict[str, int] = field(default_factory=dict)
    unsaid: dict[str, int] = field(default_factory=dict)

    @property
    def trained_share(self) -> float:
        """Share of the kept tokens that carry loss."""
        return self.trained_tokens / self.tokens if self.tokens else 0.0

    @property
    def lost_share(self) -> float:
        """Share of the tokenised rows that were cut or dropped because of their length."""
        return (self.cut + self.answers_lost) / self.tried if self.tried else 0.0

    @property
    def tried(self) -> int:
        """Rows that were tokenised: neither removed nor held out before."""
        return self.kept + self.dropped + self.empty

    def plain(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        return asdict(self)


COLUMNS = {
    "in": "rows", "kept": "kept", "cut": "cut", "dropped": "dropped", "empty": "empty", "duplicates": "duplicates",
    "overlap": "overlap", "left out": "left_out", "held out": "held_out", "tokens": "tokens",
    "tokens lost": "tokens_lost", "answers lost": "answers_lost",
}  # fmt: skip
"""Heading -> field of the table that is shown per source."""


def cells(reports: Iterable[SourceReport]) -> list[list[str]]:
    """The table of counts: a line of headings, then one per source and role."""
    head = ["source", "role", *COLUMNS, "trained"]
    return [head] + [
        [item.name, item.role, *(f"{getattr(item, name):,}" for name in COLUMNS.values()), f"{item.trained_share:.0%}"]
        for item in reports
    ]


def plain_table(lines: list[list[str]]) -> str:
    """Cells as text in columns, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def over_budget(report: SourceReport, reading: Reading, limit: int | None) -> BadInput | None:
    """The fault, with the table, of a source that loses more rows to the limit than it may."""
    told = "\n" + plain_table(cells([report]))
    if reading.truncation == "error" and report.dropped:
        return BadInput(
            f"{report.dropped:,} of {report.tried:,} rows are longer than the limit, the longest at"
            f" {report.longest_at}", file=report.path, field="truncation",
            found=f"a row of {report.longest:,} tokens", expected=f"at most {limit:,}",
            hint=f"Set 'truncation' to drop, right, left or middle, or shorten the rows.{told}",
        )  # fmt: skip
    allowed = reading.max_lost if reading.max_lost is not None else BUDGET if reading.truncation is None else 1.0
    if report.lost_share > allowed:
        return BadInput(
            f"{report.cut + report.answers_lost:,} of {report.tried:,} rows are longer than {limit:,} tokens"
            " and would be cut or dropped", file=report.path, field="max_lost",
            found=f"a share of {report.lost_share:.1%}", expected=f"at most {allowed:.1%}",
            hint="Set 'truncation: right' (or left, middle, drop) to accept it, or raise 'max_length' or 'max_lost'."
            + told,
        )  # fmt: skip
    return None
