"""Tables of numbers that are no mean over examples."""

from __future__ import annotations

import numpy as np

from tunewright.evaluate.base import Grid, Scores
from tunewright.report import html
from tunewright.report.evidence import Cost, Evidence
from tunewright.report.evidence import Grid as Shown
from tunewright.results import grids as paired

COST = Cost(tokens=1, seconds=1.0, tokens_per_second=1.0, peak_memory_bytes=1, train_flops=1.0)


def scores(*grids: Grid) -> Scores:
    one = np.ones(1)
    return Scores("a_task", "accuracy", "other", "share", True, one, one, ["row:1"], grids=grids)


def shown() -> list[Shown]:
    before = Grid("Ways", ("error", "cost"), {"<one>": (0.5, 2.0), "gone": (0.25, None)})
    after = Grid("Ways", ("error", "cost"), {"<one>": (float("nan"), 2.0), "new": (0.125, 7.0)})
    return list(paired([scores(before)], [scores(after)]))


def test_lines_of_either_side_stand_in_the_table() -> None:
    (grid,) = shown()
    assert grid.task == "a_task" and grid.columns == ("error", "cost")
    lines = {line.name: (line.before, line.after) for line in grid.rows}
    assert lines == {
        "<one>": ((0.5, 2.0), (None, 2.0)), "gone": ((0.25, None), (None, None)), "new": ((None, None), (0.125, 7.0)),
    }  # fmt: skip


def test_a_reader_sees_them_and_the_file_holds_them(tmp_path) -> None:
    found = Evidence(verdict="tuned", cost=COST, grids=tuple(shown()))
    assert Evidence.load(found.save(tmp_path).parent) == found
    page = html.render(found, tmp_path / "metrics.jsonl", "model: nano\n")
    table = page[page.index('<section id="tables">') : page.index('<section id="data">')]
    assert "a task: Ways" in table and "&lt;one&gt;" in table and "0.5000 → –" in table and "– → 0.1250" in table
    assert table.count(">2<") == 1, "a number that did not change stands once"
    assert 'id="tables"' not in html.render(Evidence(verdict="tuned", cost=COST), tmp_path / "metrics.jsonl", "a: b\n")


def test_the_terminal_shows_the_shorter_way_across() -> None:
    import io

    from rich.console import Console

    from tunewright.report.console import show_measures
    from tunewright.report.evidence import Grid, GridRow

    rows = (GridRow(name="single", before=(1, 2, 3), after=(4, None, 0.123456)),)
    grid = Grid(task="t", title="Ways", columns=("one", "two", "three"), rows=rows)
    shown = io.StringIO()
    show_measures("fine", (), (grid,), Console(file=shown, width=80))
    lines = [line.split() for line in shown.getvalue().splitlines() if line.strip()]
    assert ["one", "4"] in lines and ["two"] in lines and ["three", "0.123"] in lines and ["single"] in lines
