"""Recipes compared fairly: equal budget, several seeds, tuning apart from judging, one verdict."""

from tunewright.comparison.arms import Arm as Arm
from tunewright.comparison.arms import Budget as Budget
from tunewright.comparison.arms import Landscape as Landscape
from tunewright.comparison.arms import Target as Target
from tunewright.comparison.arms import Tuning as Tuning
from tunewright.comparison.arms import vary as vary
from tunewright.comparison.outcome import ArmOutcome as ArmOutcome
from tunewright.comparison.outcome import Comparison as Comparison
from tunewright.comparison.outcome import Effect as Effect
from tunewright.comparison.running import compare as compare
