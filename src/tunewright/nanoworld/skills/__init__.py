"""Every skill of the world, found by walking this folder: to add one, add a file with one `Skill` subclass."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from tunewright.nanoworld.skill import Skill


@cache
def skills() -> dict[str, Skill]:
    """All skills by name, in alphabetical order of their files."""
    found: dict[str, Skill] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda one: one.name):
        for thing in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(thing, type) and issubclass(thing, Skill) and "name" in vars(thing):
                found[thing.name] = thing()
    return found
