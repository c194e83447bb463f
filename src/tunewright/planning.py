"""What a run will take, before it starts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tunewright.assembly import assemble
from tunewright.costs import training_flops
from tunewright.evaluate.statistics import detectable_share
from tunewright.pipeline import build_loop, trial
from tunewright.recipe import Recipe

SECONDS = 8.0
"""Time spent on trial steps."""

SEEDS = (3, 5, 10)
"""Numbers of seeds for which it is told what a comparison could see."""


@dataclass(frozen=True)
class Prediction:
    """Peak resident memory in bytes, training seconds (evaluation not counted), steps, tokens, operations.

    `examples` are the rows of `data.eval`; `detectable` the difference of a share (in points) that a comparison on them
    finds four times in five, by number of seeds.
    """

    peak_memory_bytes: int
    available_bytes: int
    seconds: float
    steps: int
    tokens: int
    train_flops: float
    trained_parameters: int
    all_parameters: int
    examples: int
    detectable: Mapping[int, float]
    advice: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the run's peak lies below the memory that is free now."""
        return self.peak_memory_bytes <= self.available_bytes

    def plain(self) -> Mapping[str, Any]:
        """The prediction as JSON can hold it."""
        return {**asdict(self), "fits": self.fits}

    def __str__(self) -> str:
        lines = [
            f"memory      {self.peak_memory_bytes / 1e9:.2f} GB at the peak, {self.available_bytes / 1e9:.1f} GB available: "
            + ("fits" if self.fits else "does not fit"),
            f"time        {self.seconds:,.0f} s of training in {self.steps:,} steps, {self.tokens:,} tokens",
            f"operations  {self.train_flops:.3g}",
            f"parameters  {self.trained_parameters:,} of {self.all_parameters:,} train",
            f"evidence    with {self.examples:,} examples, a comparison sees differences of a share (accuracy, exact match) above"
            + ",".join(f" {points:.1f} points with {seeds} seeds" for seeds, points in self.detectable.items())
            + ", four times in five",
        ]
        return "\n".join([*lines, *(f"advice      {text}" for text in self.advice)])


def predict(recipe: Recipe) -> Prediction:
    """Loads what the run would load, tries its largest batch, an evaluation and steps for some seconds, and reckons.

    Raises `BadInput` as the run would, also when the largest batch does not fit.
    """
    assembly = assemble(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        loop = build_loop(assembly, Path(scratch), record=False)
        available = psutil.virtual_memory().available + psutil.Process().memory_info().rss
        found = trial(loop, assembly, Path(scratch), seconds=SECONDS)
    tokens = sum(int(loop.plan.lengths[loop.plan.step(step)].sum()) for step in range(loop.total))
    weights = assembly.data.train.weights
    flops = training_flops(assembly.policy, tokens, round(tokens * float((weights != 0).mean())))
    predicted = Prediction(
        found.peak_memory_bytes,
        available,
        found.seconds_per_token * tokens,
        loop.total,
        tokens,
        flops,
        sum(p.numel() for p in assembly.attached.trained().values()),
        sum(p.numel() for p in assembly.policy.parameters()),
        len(assembly.data.eval),
        {seeds: 100 * detectable_share(len(assembly.data.eval), seeds) for seeds in SEEDS},
        (),
    )
    return Prediction(**{**asdict(predicted), "advice": _advice(recipe, predicted, loop.settings.micro_batch_tokens)})


def _advice(recipe: Recipe, found: Prediction, micro: int) -> tuple[str, ...]:
    if found.fits:
        return ()
    advice = []
    if not recipe.train.activation_checkpointing:
        advice.append("set train.activation_checkpointing: true")
    if micro > 128:
        advice.append(f"lower train.micro_batch_tokens from {micro} to {micro // 2}")
    if recipe.adapter.trains_weights:  # type: ignore[attr-defined]
        advice.append("train an adapter (adapter: lora) instead of every weight")
    if recipe.train.precision != "bf16":
        advice.append("set train.precision: bf16")
    return tuple(advice)
