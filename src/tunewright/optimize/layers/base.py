"""The Layers protocol: which of the trained parameters train when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tunewright.catalog import Method
from tunewright.hooks import Hook


class Layers(Method):
    """A specification of which trained parameters are at work at a step; `hook` makes what switches them.

    A parameter at rest has `requires_grad` False and no gradient, so it costs neither; its optimizer state is dropped
    unless the method keeps it.
    """

    kind: ClassVar[str] = "layers"

    @property
    def wants(self) -> Mapping[str, frozenset[str]]:
        return {"adapter": frozenset({"whole"})}

    def hook(self) -> Hook:
        """What acts at the loop's moments (`on_step`, before anything of a step is computed)."""
        raise NotImplementedError
