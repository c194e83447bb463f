"""Measuring while a run trains: early stopping, and the best weights kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput, nearest
from tunewright.evaluate.base import Scores
from tunewright.hooks import Hook
from tunewright.models.shards import whole
from tunewright.train.checkpoint import read_folder, write_folder
from tunewright.train.loop import Loop, Step


@dataclass
class Best:
    """The best value of a measure so far, the step it was seen at, and evaluations since."""

    value: float | None = None
    step: int = 0
    since: int = 0

    def better(self, value: float, higher: bool) -> bool:
        """Whether `value` is an improvement."""
        return self.value is None or (value > self.value if higher else value < self.value)


class Watch(Hook):
    """Measures every `every` steps, writes the values to the metrics, stops early, keeps the best weights.

    `measured` gives the scores of the policy as it is. `stop` is (measure, patience), `keep` the measure whose best
    weights the run ends with; they are kept in `folder`.
    """

    def __init__(
        self,
        every: int,
        measured: Callable[[], Sequence[Scores]],
        write: Callable[[dict[str, Any]], None],
        folder: Path,
        stop: tuple[str, int] | None = None,
        keep: str | None = None,
    ) -> None:
        self.every, self.measured, self.write, self.folder = every, measured, write, folder
        self.stop, self.keep = stop, keep
        self.bests = {name: Best() for name in {stop[0] if stop else None, keep} - {None}}

    def after_step(self, loop: Loop, step: Step) -> None:
        if step.step % self.every and step.step != loop.total:
            return
        found = {scores.name: scores for scores in self.measured()}
        self.write({"step": step.step, "evaluation": {name: scores.score for name, scores in found.items()}})
        for name, best in self.bests.items():
            self._judge(loop, step, self._named(str(name), found), best, str(name))
        loop.policy.train()

    def _judge(self, loop: Loop, step: Step, scores: Scores, best: Best, name: str) -> None:
        value = scores.score
        if math.isfinite(value) and best.better(value, scores.higher_is_better):
            best.value, best.step, best.since = value, step.step, 0
            if name == self.keep:
                trained = {key: whole(tensor).cpu() for key, tensor in loop.attached.state().items()}
                if loop.world.main:
                    write_folder(
                        self.folder, {"trained": trained}, {"measure": name, "value": value, "step": step.step}
                    )
        else:
            best.since += 1
        if self.stop and name == self.stop[0] and best.since >= self.stop[1]:
            loop.finished = True

    def on_end(self, loop: Loop) -> None:
        loop.world.wait()
        if self.keep and self.bests[self.keep].value is not None and not loop.interrupted:
            tensors, _ = read_folder(self.folder)
            loop.attached.load_state(tensors["trained"])

    def state(self) -> dict[str, Any]:
        return {str(name): vars(best) for name, best in self.bests.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, best in json.loads(json.dumps(state)).items():
            self.bests[name] = Best(**best)

    def _named(self, name: str, found: dict[str, Scores]) -> Scores:
        if name not in found:
            raise BadInput(
                f"no measure is called '{name}'",
                field="train",
                hint=nearest(name, found) or f"Measured: {', '.join(found)}.",
            )
        return found[name]
