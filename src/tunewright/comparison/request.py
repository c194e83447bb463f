"""A comparison as the command line asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.comparison.arms import Arm, Budget, Landscape, Target, Tuning, vary
from tunewright.errors import BadInput
from tunewright.recipe import Recipe


def arms(recipes: Sequence[str], varied: Sequence[str], changes: Sequence[str]) -> list[Arm]:
    """The arms named by `FILE` or `NAME=FILE` (a file's stem is its name), or by one file and what is varied in it."""
    files = [_named(text) for text in recipes]
    if varied:
        if len(files) != 1:
            raise BadInput("one recipe is varied at a time", field="--vary", found=f"{len(files)} recipes")
        return vary(Path(files[0][1]), varied, changes)
    return [Arm(name, Recipe.read(file, changes)) for name, file in files]


def budget(tokens: float | None, seconds: float | None, flops: float | None) -> Budget | None:
    """The one budget that is given. Raises `BadInput` for several."""
    given = [Budget(u, a) for u, a in (("tokens", tokens), ("seconds", seconds), ("flops", flops)) if a is not None]  # type: ignore[arg-type]
    if len(given) > 1:
        named = " and ".join(f"--{one.unit}" for one in given)
        raise BadInput(f"{named} are each the budget of a trial", hint="Give one of them.")
    return given[0] if given else None


def tuning(
    keys: Sequence[str],
    on: Sequence[str],
    trials: int,
    sampler: str,
    seeds: int,
    halving: int | None,
    conventional: bool = True,
    intervals: int = 4,
    pruner: str | None = None,
    together: int = 1,
    limits: Sequence[str] = (),
) -> Tuning:
    """What is tuned: `keys` of the form KEY=LOW..HIGH or KEY=A,B,C, by default the learning rate."""
    parameters = _values(keys, "--tune-key") or None
    how: Any = sampler  # Tuning checks it.
    stopped: Any = pruner
    return Tuning(
        parameters, trials, how, seeds, halving, on=tuple(on), conventional=conventional, intervals=intervals,
        pruner=stopped, together=together, limits=_limits(limits),
    )  # fmt: skip


def _limits(texts: Sequence[str]) -> dict[str, float] | None:
    """The most that costs may be, from COST=MOST."""
    found = {}
    for text in texts:
        name, _, most = text.partition("=")
        try:
            found[name] = float(most)
        except ValueError:
            raise BadInput("not a limit", field="--tune-limit", found=text, expected="COST=MOST") from None
    return found or None


def target(
    value: float | None, every: int | None, studies: int | None, of: Sequence[str] = (), repeats: int = 5
) -> Target | None:
    """What is waited for; None without a value or arms that set it. Raises `BadInput` for studies of nothing."""
    if value is None and not of:
        if studies is not None:
            raise BadInput(
                "studies wait for a target", field="--studies", hint="Add --target VALUE, or --target-of ARM."
            )
        return None
    return Target(value, every, studies, tuple(of), repeats)


def landscape(keys: Sequence[str], points: int, seeds: int) -> Landscape | None:
    """What varies alone: `keys` as for tuning; None without any."""
    return Landscape(_values(keys, "--landscape"), points, seeds) if keys else None


def _values(keys: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for text in keys:
        key, equals, values = text.partition("=")
        if not equals or not key:
            raise BadInput("not values to try", field=option, found=text, expected="KEY=LOW..HIGH or KEY=A,B,C")
        found[key] = values
    return found


def _named(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(file)
    return Path(text).stem, Path(text)
