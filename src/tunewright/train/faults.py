"""What went wrong when a loss or gradient is not a finite number: the step, the module, the records, the likely cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tunewright.errors import NotFinite

if TYPE_CHECKING:
    from tunewright.train.loop import Loop


def explain(loop: Loop, step: int) -> NotFinite:
    """The error for a step that was not finite, found by running its micro-batches again one by one."""
    if (weights := _weights(loop)) is not None:
        return _fault(step, f"the trained weight '{weights}' is not finite", [], "the learning rate is too high")
    for batch in loop.prepared(step, loop.batches(step)):
        for hook in loop.hooks:
            batch = hook.on_batch(loop, batch)
        loop.optimizer.zero_grad(set_to_none=True)
        with _first_bad_output(loop.policy) as first:
            loss = loop.losses(batch).total
            if loss.requires_grad:
                loss.backward()
        records = [loop.table.where(int(index)) for index in batch.indices]
        if not torch.isfinite(loss):
            module = first[0] if first else type(loop.objective).__name__
            return _fault(
                step, f"the loss is {loss.item()}, first seen in the output of '{module}'", records, _cause(loop)
            )
        for name, parameter in loop.attached.trained().items():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                return _fault(step, f"the gradient of '{name}' is not finite", records, _cause(loop))
    return _fault(step, "the sum over micro-batches is not finite", [], _cause(loop))


def _fault(step: int, what: str, records: list[str], cause: str) -> NotFinite:
    shown = ", ".join(records[:8]) + (f" and {len(records) - 8} more" if len(records) > 8 else "")
    of = f" Records: {shown}." if records else ""
    return NotFinite(f"step {step + 1} stopped: {what}.{of} Likely cause: {cause}. The last checkpoint is intact.")


def _cause(loop: Loop) -> str:
    rate = loop.optimizer.param_groups[0]["peak_lr"]
    if not all(bool(torch.isfinite(p).all()) for p in loop.policy.parameters()):
        return "the pretrained weights hold values that are not finite"
    if loop.state.step == 0:
        return "an extreme loss weight in the data, or an overflow in the model's number format; try precision: fp32"
    return f"the learning rate ({rate:g}) is too high, or the records above hold extreme weights"


def _weights(loop: Loop) -> str | None:
    trained = loop.attached.trained().items()
    return next((name for name, p in trained if not torch.isfinite(p).all()), None)


class _first_bad_output:
    """Records the names of the innermost modules whose output is not finite, in order of computation."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.names = model, list[str]()

    def __enter__(self) -> list[str]:
        self.handles = [
            module.register_forward_hook(self._watch(name))
            for name, module in self.model.named_modules()
            if not any(True for _ in module.children())
        ]
        return self.names

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _watch(self, name: str):  # type: ignore[no-untyped-def]
        def look(module: nn.Module, args: object, output: object) -> None:
            if isinstance(output, Tensor) and not torch.isfinite(output).all():
                self.names.append(name)

        return look
