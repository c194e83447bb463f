"""Random recipes of every kind: what the declarations allow must train, what they refuse must say why."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from tunewright import catalog
from tunewright.catalog import Method
from tunewright.recipe.composition import Clash, clashes
from tunewright.testing.effects import fields_of, usual
from tunewright.testing.runs import Steps, tiny_loop, usual_parts

REQUIRED = ("adapter", "objective", "optimizer", "schedule")
OPTIONAL = ("layers", "regularizer", "order", "quantizer", "context")
"""Kinds that a recipe may do without: left out in two of three drawn."""

Combination = Mapping[str, Method]


def candidates(kind: str) -> list[Method]:
    """Every method of a kind at its defaults (those of the tiny runs where these have some), with the second values of
    options that it requires; methods that require one without a second value are left out."""
    known = usual_parts().get(kind)
    made = []
    for method in catalog.methods(kind):
        needed = [field.to for field in fields_of(method) if field.info.is_required()]
        if all(effect is not None and effect.second is not None for effect in needed):
            made.append(known if known is not None and known.name == method.name else _small(method))
    return made


def combinations(seed: int = 0) -> Iterator[Combination]:
    """Distinct combinations at random, for ever (or until all are drawn many times over)."""
    rng = random.Random(seed)
    pool = {kind: candidates(kind) for kind in (*REQUIRED, *OPTIONAL)}
    seen: set[tuple[str, ...]] = set()
    misses = 0
    while misses < 100_000:
        chosen = {kind: rng.choice(pool[kind]) for kind in REQUIRED}
        chosen |= {kind: rng.choice(pool[kind]) for kind in OPTIONAL if pool[kind] and rng.random() < 1 / 3}
        key = tuple(f"{kind}={method.name}" for kind, method in sorted(chosen.items()))
        if key in seen:
            misses += 1
            continue
        seen.add(key)
        yield chosen


def label(chosen: Combination) -> str:
    """The combination in a line."""
    return " ".join(f"{kind}={method.name}" for kind, method in sorted(chosen.items()))


def refusals(chosen: Combination) -> list[Clash]:
    """Why a recipe of these methods is refused before anything is loaded; teacher and reference count as supplied."""
    needed = {need for method in chosen.values() for need in method.needs}
    return list(clashes({(kind,): method for kind, method in chosen.items()}, needed))


def trains(chosen: Combination, steps: int = 2) -> None:
    """Raises `AssertionError` unless two steps give finite losses and move what trains."""
    account = Steps()
    loop = tiny_loop(chosen, hooks=[account], steps=steps)
    before = {name: value.clone() for name, value in loop.attached.state().items()}
    loop.run()
    assert len(account.done) == loop.total and all(math.isfinite(step.loss) for step in account.done), account.done
    after: dict[str, Any] = loop.attached.state()
    assert any(not before[name].equal(value) for name, value in after.items() if name in before), "nothing moved"


def _small(method: type[Method]) -> Method:
    """The method at its defaults, of a size that tiny layers can hold."""
    given = {name: value for name, value in (("rank", 4), ("blocks", 1)) if name in method.model_fields}
    return usual(method, given)
