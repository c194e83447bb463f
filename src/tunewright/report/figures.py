"""Numbers as a reader wants them: few digits, a unit, an explicit sign where they are differences."""

from __future__ import annotations

import math

from tunewright.report.evidence import Measure

NONE = "–"


def title(measure: Measure) -> str:
    """The measure's name in words."""
    return measure.name.replace("_", " ")


def is_share(measure: Measure) -> bool:
    """Whether a measure is shown in percent."""
    return measure.unit == "share"


def number(value: float | None, decimals: int | None = None) -> str:
    """A number with thousands separated; four significant digits unless `decimals` says how many follow the point."""
    if value is None:
        return NONE
    if decimals is None and float(value).is_integer():
        return f"{value:,.0f}"
    places = _places(value) if decimals is None else decimals
    return f"{value:,.{places}f}"


def percent(value: float | None, decimals: int = 1) -> str:
    """A share as a percentage."""
    return NONE if value is None else f"{100 * value:.{decimals}f}%"


def level(measure: Measure, value: float | None) -> str:
    """A value of a measure in its unit, with as many decimals as its larger value needs."""
    if value is None:
        return NONE
    return percent(value) if is_share(measure) else number(value, _decimals(measure))


def change(measure: Measure, value: float | None) -> str:
    """A difference of a measure with its sign; shares in percentage points."""
    if value is None:
        return NONE
    text = f"{100 * value:+.1f}" if is_share(measure) else f"{value:+,.{_decimals(measure)}f}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")


def interval(measure: Measure) -> str:
    """The 95% interval of the difference, or nothing where there is none."""
    if measure.low is None or measure.high is None:
        return ""
    return f"[{change(measure, measure.low)}, {change(measure, measure.high)}]"


def score(value: float) -> str:
    """The score of one answer."""
    return f"{value:.3g}"


def memory(value: float | None) -> str:
    """Bytes in the largest unit that leaves at least 1, in powers of 1,000."""
    return _scaled(value, ("bytes", "kB", "MB", "GB", "TB", "PB"))


def count(value: float | None) -> str:
    """A count in thousands (k), millions (M), ... from ten thousand on."""
    return number(value) if value is not None and abs(value) < 10_000 else _scaled(value, ("", "k", "M", "B", "T"))


def operations(value: float | None) -> str:
    """Floating-point operations."""
    return _scaled(value, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"))


def duration(value: float | None) -> str:
    """Seconds as the two largest units of d, h, min, s."""
    if value is None:
        return NONE
    if value < 10:
        return f"{value:.1f} s"
    seconds = round(value)
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((index for index, (amount, _) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def off(predicted: float | None, actual: float | None) -> str:
    """How far a prediction was from the fact, as a signed percentage of the fact."""
    return NONE if not predicted or not actual else f"{100 * (predicted / actual - 1):+.0f}%"


def _scaled(value: float | None, units: tuple[str, ...]) -> str:
    if value is None:
        return NONE
    step = 0
    while abs(value) >= 999.5 and step + 1 < len(units):
        value, step = value / 1000, step + 1
    return f"{number(value, 0 if not step or abs(value) >= 100 else 1)} {units[step]}".rstrip()


def _decimals(measure: Measure) -> int:
    size = max(abs(value) for value in (measure.before, measure.after, 0.0) if value is not None)
    return 0 if _whole(measure) else _places(size)


def _whole(measure: Measure) -> bool:
    return all(value is None or float(value).is_integer() for value in (measure.before, measure.after, measure.delta))


def _places(value: float) -> int:
    return 3 if value == 0 else max(0, min(6, 3 - math.floor(math.log10(abs(value)))))
