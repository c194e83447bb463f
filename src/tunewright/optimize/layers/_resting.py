"""Parameters at rest: no gradient, no optimizer state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch

from tunewright.hooks import Hook

if TYPE_CHECKING:
    from tunewright.train.loop import Loop


class Resting(Hook):
    """Trains only the parameters that `chosen` names, chosen anew every `every` steps (once when None).

    With `keep_state` the optimizer state of a parameter at rest waits in the processor's memory instead of being
    dropped. All parameters can train again after the run.
    """

    def __init__(self, every: int | None = None, keep_state: bool = False) -> None:
        self.every, self.keep_state = every, keep_state
        self.turn: int | None = None
        self.at_work: list[str] = []
        self._applied = False

    @abstractmethod
    def chosen(self, loop: Loop, turn: int) -> Collection[str]:
        """Names of the trained parameters at work in interval `turn` (0 is the first)."""

    def on_step(self, loop: Loop) -> None:
        turn = loop.state.step // self.every if self.every else 0
        if turn != self.turn:
            self.at_work = sorted(self.chosen(loop, turn))
            self.turn, self._applied = turn, False
        if not self._applied:
            put_to_work(loop, self.at_work, self.keep_state)
            self._applied = True

    def on_end(self, loop: Loop) -> None:
        put_to_work(loop, loop.attached.trained(), self.keep_state)
        self._applied = False

    def state(self) -> dict[str, Any]:
        return {"turn": self.turn, "at_work": self.at_work}

    def load_state(self, state: dict[str, Any]) -> None:
        self.turn, self.at_work = state.get("turn"), state.get("at_work", [])
        self._applied = False


def put_to_work(loop: Loop, names: Collection[str], keep_state: bool) -> None:
    """Lets the named trained parameters train and puts all others to rest."""
    wanted = set(names)
    for name, parameter in loop.attached.trained().items():
        state = loop.optimizer.state.get(parameter, {})
        if name in wanted:
            parameter.requires_grad_(True)
            _move(state, parameter.device)
            continue
        parameter.requires_grad_(False)
        parameter.grad = None
        if keep_state:
            _move(state, torch.device("cpu"))
        else:
            loop.optimizer.state.pop(parameter, None)


def _move(state: dict[str, Any], device: torch.device) -> None:
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            state[key] = value.to(device)
