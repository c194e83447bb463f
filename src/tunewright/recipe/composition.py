"""What composes with what, decided from what the methods declare, before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tunewright import catalog
from tunewright.catalog import Method, Need
from tunewright.document import Place

MET: frozenset[Need] = frozenset({"reference", "pairs", "labels", "mismatched", "wordings", "groups"})
"""Needs that every recipe meets: the model with its adapter off, the rows of the data."""


@dataclass(frozen=True)
class Clash:
    """Why a recipe cannot run: where, the reason, and what to write instead."""

    place: Place
    reason: str
    hint: str


def clashes(methods: Mapping[Place, Method], supplied: Collection[str] = ()) -> Iterator[Clash]:
    """Every want that a method's neighbours do not meet, and every need that nothing supplies.

    `methods` are a recipe's by place; `supplied` the keys under `supplies`.
    """
    for place, method in methods.items():
        for need in sorted(method.needs - MET - set(supplied)):
            yield Clash(place, f"the {method.kind} '{method.name}' needs '{need}'", f"Add 'supplies: {{{need}: ...}}'.")
        for kind, traits in method.wants.items():
            for other_place, other in methods.items():
                if other.kind == kind and not traits <= other.traits:
                    lacking = " and ".join(sorted(traits - other.traits))
                    yield Clash(
                        other_place,
                        f"the {method.kind} '{method.name}' wants the {kind} to be {lacking}; '{other.name}' is not",
                        _instead(kind, traits),
                    )
    needed = {need for method in methods.values() for need in method.needs | method.accepts}
    for name in sorted(set(supplied) - needed):
        yield Clash(("supplies", name), "no method of this recipe asks for it", "Remove it.")


def with_traits(kind: str, traits: Iterable[str]) -> list[str]:
    """The names of the methods of a kind that have all `traits` at their defaults."""
    return [
        method.name
        for method in catalog.methods(kind)
        if not any(field.is_required() for field in method.model_fields.values()) and set(traits) <= method().traits
    ]


def _instead(kind: str, traits: Iterable[str]) -> str:
    known = with_traits(kind, traits)
    return f"Use {' or '.join(known)}." if known else "Remove one of the two."
