"""What happens to a record that is longer than the limit, and the account of it."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.data.counts import SourceReport
from tunewright.data.records import Record
from tunewright.data.templates import Rendered, Renderer
from tunewright.recipe import Truncation


def shortened(
    rendered: Rendered, limit: int | None, policy: Truncation | None, opening: Sequence[int] = ()
) -> Rendered | None:
    """The record within `limit` tokens, None when the policy drops it.

    `right` keeps the beginning, `left` the end (behind the special tokens `opening` that every text begins with),
    `middle` both ends in equal parts. `drop`, `error` and no policy give None.
    """
    count = len(rendered.ids)
    if limit is None or count <= limit:
        return rendered
    if policy not in ("left", "right", "middle"):
        return None
    if policy == "right":
        kept = [(0, limit)]
    elif policy == "middle":
        kept = [(0, (limit + 1) // 2), (count - limit // 2, count)]
    else:
        head = len(opening) if rendered.ids[: len(opening)] == list(opening) and len(opening) < limit else 0
        kept = [(0, head), (count - limit + head, count)]
    ids = [index for start, end in kept for index in rendered.ids[start:end]]
    weights = _taken(rendered.weights, kept)
    weights[0] = 0.0
    columns = {name: _taken(values, kept) for name, values in rendered.columns.items()}
    return Rendered(ids, weights, rendered.clean, columns)


def _taken(values: Sequence[float], kept: Sequence[tuple[int, int]]) -> list[float]:
    return [value for start, end in kept for value in values[start:end]]


def account(
    report: SourceReport,
    record: Record,
    whole: Rendered,
    rendered: Rendered | None,
    renderer: Renderer,
    limit: int | None,
) -> bool:
    """Enters a record into its source's counts; whether it is kept.

    `whole` is the record before, `rendered` after it was brought within the limit (None: dropped).
    """
    had = whole.trained
    report.long_prompts += limit is not None and whole.prompt_length >= limit and had > 0
    if rendered is None or (rendered.trained == 0 and had):
        report.tokens_lost += len(whole.ids)
        report.answers_lost += 1
        report.dropped += 1
        return False
    if not had:
        report.empty += 1
        return False
    lost = len(whole.ids) - len(rendered.ids)
    report.kept += 1
    report.cut += lost > 0
    report.tokens_lost += lost
    report.tokens += len(rendered.ids)
    report.trained_tokens += rendered.trained
    report.cut_answers += rendered.trained < had
    report.empty_answers += not record.answer.strip() and not record.turns[-1].calls
    report.unclean += not rendered.clean
    for part in renderer.unsaid(record):
        report.unsaid[part] = report.unsaid.get(part, 0) + 1
    specials = [index for index in rendered.ids if index in renderer.encoder.specials]
    report.ends += _learns_end(rendered, renderer)
    for index in specials:
        name = renderer.encoder.name(index)
        report.specials[name] = report.specials.get(name, 0) + 1
    report.largest_id = max(report.largest_id, max(rendered.ids))
    return True


def _learns_end(rendered: Rendered, renderer: Renderer) -> bool:
    """Whether the last trained token, or one of the two before (a line end may follow), is a special one."""
    seen = 0
    for index in range(len(rendered.ids) - 1, -1, -1):
        if rendered.weights[index]:
            seen += 1
            if rendered.ids[index] in renderer.encoder.specials:
                return True
            if seen == 3:
                return False
    return False
