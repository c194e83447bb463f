"""Charts as inline SVG that stretches to its column, with labels in HTML so that text keeps its size on a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

from tunewright.report.evidence import Calibration, Formats, Measure, Sensitivity
from tunewright.report.figures import is_share, number

SIZE = 1000
"""Width and height of every drawing's own coordinates."""

MOST_POINTS = 600

Points = Sequence[tuple[float, float]]


class Line(NamedTuple):
    """A series: its name in the legend, its points, and how it is drawn."""

    name: str
    points: Points
    style: Literal["main", "faint", "second", "third", "fourth", "ideal"] = "main"
    dots: bool = False


class Axis(NamedTuple):
    """The values an axis spans and where it is labelled."""

    low: float
    high: float
    marks: tuple[float, ...]

    def at(self, value: float) -> float:
        """The place of a value, 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def axis(values: Iterable[float], wanted: int = 5, *, floor: float | None = None, whole: bool = False) -> Axis:
    """An axis over `values` with about `wanted` round marks; `floor` is a value it must reach down to."""
    kept = [value for value in values if math.isfinite(value)] + ([] if floor is None else [floor])
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        low, high = (low if floor == low else low - pad), high + pad
    step = _round_step((high - low) / wanted)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step), math.ceil(high / step)
    if whole:
        return Axis(low, high, tuple(k * step for k in range(first, last + 1) if low <= k * step <= high))
    return Axis(first * step, last * step, tuple(k * step for k in range(first, last + 1)))


def line_chart(
    title: str,
    lines: Sequence[Line],
    label: Callable[[float], str] | None = None,
    *,
    across: Axis | None = None,
    up: Axis | None = None,
    across_name: str = "step",
    across_label: Callable[[float], str] = number,
) -> Markup:
    """A figure with one or several lines over steps (or whatever `across_name` says).

    Marks of the upright axis get as many decimals as their distance needs, unless `label` writes them.
    """
    points = [point for line in lines for point in line.points]
    x = across or axis((px for px, _ in points), whole=True)
    y = up or axis(py for _, py in points)
    drawn = Markup("").join(_draw(line, x, y) for line in lines)
    grid = Markup("").join(
        Markup('<path class="grid" d="M0 {0:.1f}H{1}"/>').format(SIZE * (1 - y.at(mark)), SIZE) for mark in y.marks
    )
    named = [line for line in lines if line.name]
    return Markup(
        '<figure class="chart"><figcaption>{title}</figcaption>{legend}<div class="plot"><div class="ys">{ys}</div>'
        '<svg viewBox="0 0 {size} {size}" preserveAspectRatio="none" role="img" aria-label="{title}">{grid}{drawn}'
        '</svg><div class="xs">{xs}</div><div class="name">{name}</div></div></figure>'
    ).format(
        title=title,
        size=SIZE,
        grid=grid,
        drawn=drawn,
        name=across_name,
        legend=_legend(named) if len(named) > 1 else "",
        ys=_labels("bottom", y, label or _plainly(y)),
        xs=_labels("left", x, across_label),
    )


def by_format(found: Formats) -> Markup:
    """Accuracy under every format, in the order of the base model's accuracy: the height from end to end is the spread."""
    ordered = sorted(found.formats, key=lambda one: -1.0 if one.before is None else one.before)
    points = lambda side: [
        (float(place), value) for place, one in enumerate(ordered, 1) if (value := getattr(one, side)) is not None
    ]
    in_percent: Callable[[float], str] = lambda value: f"{100 * value:.0f}%"
    lines = [Line("before", points("before"), "second", dots=True), Line("after", points("after"), "main", dots=True)]
    return line_chart(
        f"{found.task.replace('_', ' ')}: right answers by prompt format",
        lines,
        in_percent,
        across_name="format, by the accuracy before",
    )


def by_example(found: Sensitivity) -> Markup:
    """The sensitivity of every example, rising, before and after."""
    share = lambda values: [(100 * (k + 0.5) / len(values), value) for k, value in enumerate(values)]
    return line_chart(
        f"{found.task.replace('_', ' ')}: nats per token, by example",
        [Line("before", share(found.before), "second"), Line("after", share(found.after), "main")],
        across=Axis(0.0, 100.0, (0.0, 25.0, 50.0, 75.0, 100.0)),
        across_name="share of the examples",
        across_label=lambda value: f"{value:.0f}%",
    )


def reliability(calibration: Calibration) -> Markup:
    """Stated confidence against the share that was right, before and after; the diagonal is perfect."""
    unit = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    in_percent: Callable[[float], str] = lambda value: f"{100 * value:.0f}%"
    lines = [
        Line("perfect", ((0.0, 0.0), (1.0, 1.0)), "ideal"),
        Line("before", [(bin.confidence, bin.accuracy) for bin in calibration.before], "second", dots=True),
        Line("after", [(bin.confidence, bin.accuracy) for bin in calibration.after], "main", dots=True),
    ]
    return line_chart(
        f"{calibration.task}: right answers by stated confidence",
        lines,
        in_percent,
        across=unit,
        up=unit,
        across_name="confidence",
        across_label=in_percent,
    )


def forest(measures: Sequence[Measure]) -> Mapping[str, Markup]:
    """For each measure by name, its difference and interval around a line at zero, better to the right.

    Measures of one unit share a scale, so that their lengths compare.
    """
    spans: dict[str, float] = {}
    for measure in measures:
        reach = max((abs(v) for v in (measure.low, measure.high, measure.delta) if v is not None), default=0.0)
        spans[_unit(measure)] = max(spans.get(_unit(measure), 0.0), reach)
    return {measure.name: _interval(measure, spans[_unit(measure)] * 1.08 or 1.0) for measure in measures}


def smooth(points: Points, span: float) -> list[tuple[float, float]]:
    """The mean around each point, with weights that halve every `span` points to both sides."""
    forth = _running([y for _, y in points], span)
    back = _running([y for _, y in points][::-1], span)[::-1]
    return [(x, (a + b) / (v + w)) for (x, _), (a, v), (b, w) in zip(points, forth, back, strict=True)]


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points: means of equal stretches."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), max(size, 1))]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _running(values: Sequence[float], span: float) -> list[tuple[float, float]]:
    """Weighted sum of the values so far, and sum of the weights, at each value."""
    keep = 0.5 ** (1 / span)
    total = weight = 0.0
    made = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        made.append((total, weight))
    return made


def _unit(measure: Measure) -> str:
    return "share" if is_share(measure) else f"{measure.unit} {measure.metric}"


def _interval(measure: Measure, span: float) -> Markup:
    turn = 1 if measure.higher_is_better or measure.unit == "tokens" else -1
    place = lambda value: SIZE / 2 * (1 + turn * value / span)
    parts = [Markup('<path class="zero" d="M{0} 0V{1}"/>').format(SIZE // 2, SIZE)]
    if measure.low is not None and measure.high is not None:
        ends = sorted((place(measure.low), place(measure.high)))
        parts.append(Markup('<path class="reach" d="M{0:.1f} 500H{1:.1f}"/>').format(*ends))
    if measure.delta is not None:
        parts.append(Markup('<path class="point" d="M{0:.1f} 500h0"/>').format(place(measure.delta)))
    return Markup(
        '<svg class="forest {kind}" viewBox="0 0 {size} {size}" preserveAspectRatio="none" role="img" '
        'aria-label="{reading}">{parts}</svg>'
    ).format(kind=measure.tone, size=SIZE, reading=measure.finding, parts=Markup("").join(parts))


def _draw(line: Line, x: Axis, y: Axis) -> Markup:
    places = [(SIZE * x.at(px), SIZE * (1 - y.at(py))) for px, py in line.points if math.isfinite(py)]
    path = "".join(f"{'L' if index else 'M'}{px:.1f} {py:.1f}" for index, (px, py) in enumerate(places))
    dots = "".join(f"M{px:.1f} {py:.1f}h0" for px, py in places) if line.dots or len(places) == 1 else ""
    made = Markup('<path class="line {0}" d="{1}"/>').format(line.style, path)
    return made + (Markup('<path class="dots {0}" d="{1}"/>').format(line.style, dots) if dots else Markup(""))


def _legend(lines: Sequence[Line]) -> Markup:
    items = (Markup('<span class="key {0}">{1}</span>').format(line.style, line.name) for line in lines)
    return Markup('<div class="legend">{0}</div>').format(Markup("").join(items))


def _labels(side: Literal["bottom", "left"], scale: Axis, label: Callable[[float], str]) -> Markup:
    return Markup("").join(
        Markup('<span style="{0}:{1:.2f}%">{2}</span>').format(side, 100 * scale.at(mark), label(mark))
        for mark in scale.marks
    )


def _plainly(scale: Axis) -> Callable[[float], str]:
    step = scale.marks[1] - scale.marks[0]
    size = max(abs(scale.low), abs(scale.high))
    if size < 1e-2:
        power = math.floor(math.log10(size))
        return lambda value: f"{value / 10**power:.3g}e{power}" if value else "0"
    places = next((k for k in range(6) if abs(round(step, k) - step) < step * 1e-6), 6)
    return lambda value: number(value, places)


def _round_step(rough: float) -> float:
    power: float = 10 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
