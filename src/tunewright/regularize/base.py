"""The Regularizer protocol: what is added to a run whatever its objective."""

from __future__ import annotations

from typing import ClassVar

from tunewright.catalog import Method
from tunewright.hooks import Hook


class Regularizer(Method):
    """A specification of a term of the loss, or of a disturbance of the step; `hook` makes what acts in the loop."""

    kind: ClassVar[str] = "regularizer"

    def hook(self) -> Hook:
        """What acts at the loop's moments and holds all tensors; a `penalty` is a scalar beside the mean loss."""
        raise NotImplementedError
