"""What a run will take, before it starts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tunewright import hindsight, machine
from tunewright.assembly import assemble
from tunewright.costs import training_flops, watts
from tunewright.evaluate.statistics import detectable_share
from tunewright.hindsight import Range
from tunewright.pipeline import build_loop, measure_rows, trial
from tunewright.recipe import Recipe
from tunewright.train.memory import Phases
from tunewright.train.processes import World

SECONDS = 8.0
"""Time spent on trial steps."""

SEEDS = (3, 5, 10)
"""Numbers of seeds for which it is told what a comparison could see."""


@dataclass(frozen=True)
class Prediction:
    """Peak resident memory in bytes, training seconds (evaluation not counted), steps, tokens, operations.

    `examples` are the rows of `data.eval`; `detectable` the difference of a share (in points) that a comparison on them
    finds four times in five, by number of seeds. `watts` is the power of all devices at work, None where it cannot be
    read; `price_per_hour` what the machine costs, in any currency. `seconds_range` and `memory_range` are where 8 of 10
    runs end, by the `recorded` runs of this kind of machine; None for fewer than 5. They start from what a run's own short
    rehearsal would predict, as recorded runs were predicted, so that they need not lie around what the longer trial says.
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
    watts: float | None
    price_per_hour: float | None
    recorded: int
    seconds_range: Range | None
    memory_range: Range | None
    advice: tuple[str, ...]

    def joules(self, seconds: float) -> float | None:
        """Energy of so many seconds of training."""
        return None if self.watts is None else self.watts * seconds

    def money(self, seconds: float) -> float | None:
        """Price of so many seconds, in the currency of the price per hour; None where none is given."""
        return None if self.price_per_hour is None else self.price_per_hour * seconds / 3600

    @property
    def fits(self) -> bool:
        """Whether the run's peak lies below the memory that is free now."""
        return self.peak_memory_bytes <= self.available_bytes

    def plain(self) -> Mapping[str, Any]:
        """The prediction as JSON can hold it."""
        energy, money = self.joules(self.seconds), self.money(self.seconds)
        ranges = {
            f"{name}_range": None if self.seconds_range is None or value is None else [*map(of, self.seconds_range)]
            for name, value, of in (("joules", energy, self.joules), ("money", money, self.money))
        }
        return {**asdict(self), "fits": self.fits, "joules": energy, "money": money, **ranges}

    def __str__(self) -> str:
        lines = [
            f"memory      {self.peak_memory_bytes / 1e9:.2f} GB at the peak, {self.available_bytes / 1e9:.1f} GB available: "
            + ("fits" if self.fits else "does not fit"),
            f"time        {self.seconds:,.0f} s of training in {self.steps:,} steps, {self.tokens:,} tokens",
            *self._energy_and_money(),
            self._interval(),
            f"operations  {self.train_flops:.3g}",
            f"parameters  {self.trained_parameters:,} of {self.all_parameters:,} train",
            f"evidence    with {self.examples:,} examples, a comparison sees differences of a share (accuracy, exact match) above"
            + ",".join(f" {points:.1f} points with {seeds} seeds" for seeds, points in self.detectable.items())
            + ", four times in five",
        ]
        return "\n".join([*lines, *(f"advice      {text}" for text in self.advice)])

    def _energy_and_money(self) -> list[str]:
        energy, money = self.joules(self.seconds), self.money(self.seconds)
        told = []
        if energy is not None:
            told.append(f"energy      {energy / 1000:.3g} kJ of training at {self.watts:,.0f} W, an estimate")
        if money is not None:
            told.append(f"money       {money:.3g} for training at {self.price_per_hour:g} an hour")
        return told

    def _interval(self) -> str:
        runs = f"{self.recorded:,} {'run' if self.recorded == 1 else 'runs'} recorded here"
        if self.seconds_range is None or self.memory_range is None:
            return f"interval    none: {runs}, {hindsight.NEEDED} needed"
        low, high = self.seconds_range
        told = ["{:.2f} to {:.2f} GB".format(*(end / 1e9 for end in self.memory_range)), f"{low:,.0f} to {high:,.0f} s"]
        if self.watts is not None:
            told.append(f"{self.watts * low / 1000:.3g} to {self.watts * high / 1000:.3g} kJ")
        if self.price_per_hour is not None:
            told.append(f"money {self.price_per_hour * low / 3600:.3g} to {self.price_per_hour * high / 3600:.3g}")
        return f"interval    {', '.join(told)}: 8 of 10 such runs, by {runs}"


def predict(recipe: Recipe, price_per_hour: float | None = None) -> Prediction:
    """Loads what the run would load, tries its largest batch, an evaluation and steps for some seconds, and reckons.

    Raises `BadInput` as the run would, also when the largest batch does not fit.
    """
    world = World.join()
    known = hindsight.outcomes(machine.kind(world.device.type, world.size))
    # The phases of the run itself, so that a run's rehearsal predicts the same, which recorded ratios are ratios to.
    memory = Phases()
    memory.begin("loading")
    assembly = assemble(recipe, world)
    memory.begin("measuring before")
    measure_rows(assembly)
    memory.begin("rehearsal")
    with tempfile.TemporaryDirectory() as scratch:
        loop = build_loop(assembly, Path(scratch), record=False)
        available = psutil.virtual_memory().available + psutil.Process().memory_info().rss
        short = trial(loop, assembly, Path(scratch), seconds=SECONDS)
        found = short.longer or short
        power = watts()
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
        None if power is None else power * world.size,
        price_per_hour,
        len(known),
        _scaled(hindsight.interval(hindsight.seconds_ratios(known)), short.seconds_per_token * tokens),
        _scaled(hindsight.interval(hindsight.memory_ratios(known)), short.peak_memory_bytes),
        (),
    )
    return Prediction(**{**asdict(predicted), "advice": _advice(recipe, predicted, loop.settings.micro_batch_tokens)})


def _scaled(ratios: Range | None, value: float) -> Range | None:
    return None if ratios is None else (ratios[0] * value, ratios[1] * value)


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
