"""What a run records while it trains: a line per step in metrics.jsonl, trackers, and a progress bar."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.train.loop import Loop, Step

PROJECT = "tunewright"
"""MLflow's experiment and W&B's project, unless their own environment variables (MLFLOW_EXPERIMENT_NAME, WANDB_PROJECT)
name another."""


class Metrics(Hook):
    """Appends one JSON object per step to a file and hands numbers to trackers (accelerate's).

    On a resumed run, lines after the checkpoint's step are removed first, so the file tells one story.
    """

    def __init__(
        self, path: Path, sources: Sequence[str], trackers: Sequence[str], settings: Mapping[str, Any]
    ) -> None:
        self.path, self.sources = path, list(sources)
        self._trackers = [_tracker(name, path.parent, settings) for name in trackers]

    def on_start(self, loop: Loop) -> None:
        kept = []
        if self.path.exists():
            lines = self.path.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= loop.state.step]
        self.path.write_text("".join(f"{line}\n" for line in kept))

    def after_step(self, loop: Loop, step: Step) -> None:
        line: dict[str, Any] = {
            "step": step.step,
            "loss": step.loss,
            "lr": step.lr,
            "gradient_norm": step.gradient_norm,
            "tokens": loop.state.tokens,
            "seconds": round(loop.state.seconds, 4),
            "tokens_per_second": round(step.tokens / step.seconds, 1),
            **step.parts,
        }
        if len(self.sources) > 1:
            line["sources"] = {self.sources[number]: loss for number, loss in step.sources.items()}
        self.write(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line (it has a key `step`) and hands its numbers to the trackers."""
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        flat = {f"{k}/{n}": v for k, group in line.items() if isinstance(group, Mapping) for n, v in group.items()}
        flat |= {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
        for tracker in self._trackers:
            tracker.log(flat, step=line["step"])

    def on_end(self, loop: Loop) -> None:
        for tracker in self._trackers:
            tracker.finish()


def check_trackers(names: Sequence[str]) -> None:
    """Raises `BadInput` for a tracker that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise BadInput(
                f"the tracker '{name}' is not installed",
                field="train.trackers",
                hint=f"Run: pip install 'tunewright[{name}]'.",
            )


def _tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    import torch
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    # Accelerate's trackers log through its state and fail without one.
    PartialState(cpu=not torch.cuda.is_available())
    places: dict[str, dict[str, Any]] = {
        "tensorboard": {"run_name": name, "logging_dir": folder},
        "mlflow": {"experiment_name": PROJECT, "run_name": folder.name},
        "wandb": {"run_name": os.environ.get("WANDB_PROJECT", PROJECT), "name": folder.name, "dir": str(folder)},
    }
    tracker = LOGGER_TYPE_TO_CLASS[name](**places[name])
    if hasattr(tracker, "start"):
        tracker.start()
    if name != "tensorboard":
        tracker.store_init_configuration(_flat(settings))
    return tracker


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, as trackers compare them."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) and value else {f"{above}{key}": value}
    return found


class ProgressBar(Hook):
    """A bar with loss, tokens per second and time left; plain lines where the terminal cannot draw."""

    def __init__(self, label: str = "train") -> None:
        self.label = label

    def on_start(self, loop: Loop) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=self._console, disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task(self.label, total=loop.total, completed=loop.state.step, note="")
        self._spoken = 0.0

    def after_step(self, loop: Loop, step: Step) -> None:
        rate = loop.state.tokens / loop.state.seconds
        note = f"loss {step.loss:.3f}  {rate:,.0f} tokens/s"
        self._bar.update(self._task, completed=step.step, note=note)
        due = loop.state.seconds - self._spoken > 20 or step.step in (1, loop.total)
        if not sys.stderr.isatty() and due:
            left = (loop.total - step.step) * loop.state.seconds / step.step
            self._console.print(
                f"{self.label}: step {step.step}/{loop.total}  {note}  {left:,.0f} s left", highlight=False
            )
            self._spoken = loop.state.seconds

    def on_end(self, loop: Loop) -> None:
        self._bar.stop()
