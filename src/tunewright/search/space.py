"""The values a hyperparameter may take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.errors import BadInput

WIDE = 10.0
"""A range whose ends differ by this factor or more is searched on a logarithmic scale."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole ones where both ends are, on a logarithmic scale where the range is wide."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def logarithmic(self) -> bool:
        """Whether equal factors, not equal distances, are equally likely."""
        return self.low > 0 and self.high / self.low >= WIDE

    def at(self, place: float) -> float:
        """The value at `place` in [0, 1] on the range's scale, where every whole number reaches half-way to the next."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.logarithmic:
            value = math.exp(math.log(low) + place * math.log(high / low))
        else:
            value = low + place * (high - low)
        return min(max(round(value) if self.whole else value, self.low), self.high)

    def place(self, value: float) -> float:
        """The place in [0, 1] of a value in the range, of which `at` gives the value back."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def grid(self, points: int) -> list[float]:
        """`points` values from end to end, evenly spaced on the range's scale; the middle one where there is one."""
        shares = [0.5] if points == 1 else [k / (points - 1) for k in range(points)]
        if self.logarithmic:
            made = [math.exp(math.log(self.low) + s * math.log(self.high / self.low)) for s in shares]
        else:
            made = [self.low + s * (self.high - self.low) for s in shares]
        kept = [min(max(value, self.low), self.high) for value in made]
        return sorted({round(value) for value in kept}) if self.whole else kept


@dataclass(frozen=True)
class Choice:
    """One of several values, in no order."""

    values: tuple[Any, ...]

    def at(self, place: float) -> Any:
        """The value at `place` in [0, 1], of which each value has an equal part."""
        return self.values[self.number(place)]

    def place(self, value: Any) -> float:
        """The middle of the part of [0, 1] that is the value's."""
        return (self.values.index(value) + 0.5) / len(self.values)

    def number(self, place: float) -> int:
        """The index of the value at `place`."""
        return min(int(place * len(self.values)), len(self.values) - 1)

    def grid(self, points: int) -> list[Any]:
        """Every value, however many points are asked for."""
        return list(self.values)


Space = Mapping[str, Range | Choice]
"""A recipe's key (dotted) -> the values it may take."""


def at(space: Space, place: Sequence[float]) -> dict[str, Any]:
    """The setting at a point [keys] of the unit cube."""
    return {key: axis.at(u) for (key, axis), u in zip(space.items(), place, strict=True)}


def place_of(space: Space, setting: Mapping[str, Any]) -> list[float]:
    """The point [keys] of the unit cube of which `at` gives the setting back."""
    return [axis.place(setting[key]) for key, axis in space.items()]


def axis(value: Any, field: str) -> Range | Choice:
    """A range from (low, high) or 'LOW..HIGH', a choice from a list or 'A,B,C'. Raises `BadInput` for anything else."""
    if isinstance(value, Range | Choice):
        return value
    if isinstance(value, str) and ".." in value:
        value = tuple(_number(end, field, value) for end in value.split("..", 1))
    elif isinstance(value, str):
        value = [_plain(item) for item in split(value)]
    if isinstance(value, tuple) and len(value) == 2 and all(_is_number(end) for end in value):
        if not value[0] < value[1] or not all(math.isfinite(end) for end in value):
            raise BadInput("an empty range", field=field, found=f"{value[0]}..{value[1]}", expected="LOW below HIGH")
        return Range(*value)
    if isinstance(value, list) and len(value) > 1:
        return Choice(tuple(value))
    raise BadInput("not values to choose from", field=field, found=value, expected="LOW..HIGH, or A,B,C")


def split(text: str) -> list[str]:
    """A list written with commas; those inside brackets, braces or quotes do not divide."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def _number(text: str, field: str, whole: str) -> float:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise BadInput(
                "not a range of numbers", field=field, found=whole, expected="LOW..HIGH, as 1e-5..1e-2"
            ) from None
