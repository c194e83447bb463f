"""The recipe: what is tuned, on what, how, and what counts as proof."""

from tunewright.recipe.recipe import Recipe
from tunewright.recipe.sections import (
    EMBEDDED,
    LISTS,
    NESTED,
    OPTIONAL,
    SLOTS,
    AddedTokens,
    DataSpec,
    EarlyStop,
    ModelSpec,
    Reading,
    Section,
    SourceSpec,
    TrainOn,
    TrainSpec,
    Truncation,
)

__all__ = [
    "EMBEDDED",
    "LISTS",
    "NESTED",
    "OPTIONAL",
    "SLOTS",
    "AddedTokens",
    "DataSpec",
    "EarlyStop",
    "ModelSpec",
    "Reading",
    "Recipe",
    "Section",
    "SourceSpec",
    "TrainOn",
    "TrainSpec",
    "Truncation",
]
