import json
import re

import pytest
import report_samples as samples

from tunewright.report import curves
from tunewright.report.charts import MOST_POINTS, Line, axis, forest, line_chart, smooth, thinned


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ((0.0, 1.0), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ((3.1, 4.9), (3.0, 3.5, 4.0, 4.5, 5.0)),
        ((-2.0, 2.0), (-2.0, -1.0, 0.0, 1.0, 2.0)),
        ((5.0,), (4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6)),
    ],
)
def test_an_axis_has_round_marks_around_its_values(values, marks):
    made = axis(values)
    assert made.marks == pytest.approx(marks, abs=0.11)
    assert made.low <= min(values) and made.high >= max(values)


def test_steps_are_marked_by_whole_numbers():
    assert axis([1, 2, 3], whole=True).marks == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("points", [[], [(1, 2.0)], [(1, 0.0), (2, 0.0)], [(1, 1e-9), (2, 3e-9)], [(1, float("nan"))]])
def test_a_line_of_any_points_can_be_drawn(points):
    drawn = line_chart("title", [Line("a", points), Line("b", points, dots=True)])
    assert "nan" not in drawn and "inf" not in drawn


def test_smoothing_keeps_a_constant_and_a_mean_of_neighbours():
    assert [y for _, y in smooth([(i, 2.0) for i in range(9)], 3)] == pytest.approx([2.0] * 9)
    # weights 1/2, 1 (counted from both sides: 2), 1/2: (0.5 * 0 + 2 * 3 + 0.5 * 0) / 3
    assert smooth([(0, 0.0), (1, 3.0), (2, 0.0)], 1)[1][1] == pytest.approx(2.0)


def test_a_long_curve_is_thinned_to_means():
    points = [(float(i), float(i % 2)) for i in range(10 * MOST_POINTS)]
    made = thinned(points)
    assert len(made) == MOST_POINTS and all(y == pytest.approx(0.5) for _, y in made)


def test_better_lies_to_the_right_whatever_the_direction():
    more = samples.measure("more", "target", "accuracy", 0.2, 0.5, 0.1, 9, True, "share")
    less = samples.measure("less", "target", "loss", 3.0, 2.0, 0.1, 9, False, "nats")
    worse = samples.measure("worse", "target", "loss", 2.0, 3.0, 0.1, 9, False, "nats")
    place = {
        name: float(re.search(r'point" d="M([\d.]+)', drawn)[1]) for name, drawn in forest([more, less, worse]).items()
    }
    assert place["more"] > 500 and place["less"] > 500 and place["worse"] < 500


def test_measures_of_one_unit_share_a_scale():
    wide = samples.measure("wide", "target", "accuracy", 0.1, 0.9, 0.0, 9, True, "share")
    narrow = samples.measure("narrow", "other", "stop_rate", 0.1, 0.5, 0.0, 9, True, "share")
    place = {
        name: float(re.search(r'point" d="M([\d.]+)', drawn)[1]) - 500 for name, drawn in forest([wide, narrow]).items()
    }
    assert place["wide"] == pytest.approx(2 * place["narrow"], rel=0.01)


def test_of_repeated_steps_the_later_row_counts_and_a_cut_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": None}]
    path.write_text("\n".join(json.dumps(row) for row in rows) + '\n{"step": 4, "lo')
    assert [row["loss"] for row in curves.read(path)] == [3.0, 2.0, None]


def test_curves_are_drawn_for_what_the_metrics_hold(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": s, "loss": 2.0, "sources": {"a": 1.0, "<b>": 2.0}} for s in range(1, 40)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    drawn = "".join(curves.charts(curves.read(path)))
    assert "Training loss per source" in drawn and "&lt;b&gt;" in drawn and "Learning rate" not in drawn


@pytest.mark.parametrize(
    ("values", "first", "second"),
    [
        ((0.0, 2e-4), "0", "0.5e-4"),
        ((0.011, 0.0125), "0.0110", "0.0115"),
        ((0.0, 5.0), "0", "1"),
        ((-1.0, 1.0), "-1.0", "-0.5"),
    ],
)
def test_marks_are_written_with_the_decimals_their_distance_needs(values, first, second):
    drawn = line_chart("t", [Line("", list(enumerate(values)))])
    shown = re.findall(r"<span style=\"bottom[^>]*>([^<]*)<", drawn)
    assert shown[:2] == [first, second]


def test_one_source_has_no_chart_of_its_own(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 2.0, "sources": {"a": 2.0}}))
    assert "per source" not in "".join(curves.charts(curves.read(path)))
