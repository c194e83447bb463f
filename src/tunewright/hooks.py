"""The named moments of the loop at which others may act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tunewright.data.batches import Batch
    from tunewright.objectives.base import Loss
    from tunewright.train.loop import Loop, Step


class Hook:
    """Acts at moments of the loop; every method does nothing unless overridden.

    The order inside a step: `on_step`; the objective's transform of all micro-batches, `on_batches`; for each of them
    `on_batch`, the loss, `on_loss`, `penalty`, backward, `after_batch`; then the sum over processes, the finite check, `after_backward`, clipping,
    `before_step`, optimizer, the adapter's reaction, `after_step`. An optimizer that works without gradients computes
    the micro-batches several times, and has no `after_backward`.
    """

    def on_start(self, loop: Loop) -> None:
        """Before the first step, also of a resumed run."""

    def on_step(self, loop: Loop) -> None:
        """Before anything of a step; `loop.probe` may look ahead from here."""

    def on_batches(self, loop: Loop, batches: list[Batch]) -> list[Batch]:
        """This process's micro-batches of a step to train on instead; `loop.world.sum` adds up over processes."""
        return batches

    def on_batch(self, loop: Loop, batch: Batch) -> Batch:
        """The micro-batch to train on instead of `batch`."""
        return batch

    def on_loss(self, loop: Loop, batch: Batch, loss: Loss) -> Loss:
        """The loss of a micro-batch to minimise instead; where it is a mean over tokens, `loss.per_sequence` has a
        graph."""
        return loss

    def penalty(self, loop: Loop) -> Tensor | None:
        """A scalar added to the mean loss of every micro-batch, or None."""
        return None

    def after_batch(self, loop: Loop, batch: Batch) -> None:
        """The micro-batch is computed, its gradients are added."""

    def after_backward(self, loop: Loop) -> None:
        """Gradients are summed and averaged, not yet clipped."""

    def before_step(self, loop: Loop) -> None:
        """Right before the optimizer's step."""

    def after_step(self, loop: Loop, step: Step) -> None:
        """The step is done; `loop.state` counts it."""

    def on_end(self, loop: Loop) -> None:
        """After the last step, also when the run ends early."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must remember of this hook, as JSON can hold it."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
