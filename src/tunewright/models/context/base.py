"""The Context protocol: how a model is made to take longer sequences."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from tunewright.catalog import Method


class Context(Method):
    """A specification of what is changed about a model's positions and attention."""

    kind: ClassVar[str] = "context"

    @abstractmethod
    def configure(self, config: Any) -> None:
        """Changes a model's (text) configuration in place, before its weights are loaded: the new length and whatever
        a checkpoint must say for others to compute the same in evaluation.

        Raises `BadInput` for a model that this cannot extend.
        """

    def apply(self, model: Any) -> None:
        """Changes the loaded model in place. Raises `BadInput` where its attention cannot be changed."""
