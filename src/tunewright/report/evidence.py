"""What a run proved, as typed data: the content of `evidence.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tunewright import output
from tunewright.errors import BadInput

FILE = "evidence.json"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A finite number; what is not finite (a perplexity that overflowed) is None, since JSON has no word for it."""

Text = Annotated[str, BeforeValidator(_encodable)]
"""Text from data or model; half a surrogate pair, which UTF-8 cannot hold, is a question mark."""


class Part(BaseModel):
    """A part of the evidence: frozen, unknown fields refused, built from equal-named attributes of other objects."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class Measure(Part):
    """One measured quantity, before and after; `low` to `high` is the 95% interval of `delta`."""

    name: str = Field(description="The measure's name, unique in the run.")
    kind: Literal["target", "retention", "other"] = Field(
        description="What the tuning is for, what it should not change, or what is watched besides."
    )
    metric: str = Field(description="How it is measured: exact_match, perplexity, ...")
    before: Number = Field(description="The base model's value.")
    after: Number = Field(description="The tuned model's value.")
    delta: Number = Field(description="after - before.")
    low: Number = Field(description="Lower end of the 95% interval of delta, paired over examples.")
    high: Number = Field(description="Upper end of the interval.")
    n: int = Field(description="Examples measured.", ge=0)
    higher_is_better: bool = Field(description="Direction of improvement, where there is one.")
    unit: Literal["share", "nats", "tokens", "score"] = Field(
        "score", description="A share lies between 0 and 1; nats are per token; tokens are a length."
    )
    finding: str = Field(description="What the interval allows to say.")

    @property
    def tone(self) -> Literal["better", "worse", "changed", "open"]:
        """The finding as a colour: a length that is higher or lower has changed, without being better or worse."""
        if self.finding in ("better", "worse"):
            return self.finding  # type: ignore[return-value]
        return "changed" if self.finding in ("higher", "lower") else "open"


class PhasePeak(Part):
    """The most memory that one phase of the run took."""

    phase: str = Field(description="What the run did.")
    peak_memory_bytes: int = Field(description="Largest resident memory of the process during the phase.")
    device_memory_bytes: int | None = Field(
        None, description="Most bytes of tensors on the accelerator, where it has one."
    )
    so_far: bool = Field(
        False, description="The resident peak is that of all phases so far, since the system keeps one for the process."
    )


class Cost(Part):
    """What the run took."""

    tokens: int = Field(description="Tokens trained on, padding not counted.")
    seconds: Number = Field(description="Duration of training, evaluation not counted.")
    tokens_per_second: Number = Field(description="Between the first and the last step, without evaluation.")
    peak_memory_bytes: int | None = Field(description="Largest resident memory of the process during the run.")
    train_flops: Number = Field(description="Floating-point operations of training.")
    peak_by_phase: tuple[PhasePeak, ...] = Field((), description="Largest memory of every phase, in order.")


class Plan(Part):
    """What was predicted before the run, beside what happened."""

    predicted_memory_bytes: int | None = Field(None, description="Peak memory predicted.")
    actual_memory_bytes: int | None = Field(None, description="Peak memory of the run.")
    predicted_seconds: Number = Field(None, description="Duration of training predicted.")
    actual_seconds: Number = Field(None, description="Duration of training.")


class Settings(Part):
    """The circumstances that numbers depend on."""

    dtype: str = Field(description="Number format of the arithmetic.")
    batch: int | None = Field(None, description="Most positions (tokens) evaluated at once.")
    device: str = Field(description="Where it ran.")
    threads: int | None = Field(None, description="Processor threads.")
    seed: int = Field(description="Seed of data order, initialisation and dropout.")
    layout: Literal["padded", "packed"] = Field("padded", description="How sequences shared a batch.")
    trained_parameters: int = Field(description="Parameters that trained.")
    all_parameters: int = Field(description="Parameters of the model with what was added.")
    steps: int = Field(description="Optimizer steps.")
    share_of_peak: Number = Field(None, description="Training's share of the machine's measured matrix-product peak.")


class Source(Part):
    """What became of the rows of one training source.

    `rows_in` are `rows_kept` and those dropped, empty, duplicates, overlapping, left out and held out.
    """

    name: str = Field(description="The source's name.")
    format: str = Field(description="The rows' format, recognised or named.")
    rows_in: int = Field(description="Rows read.")
    rows_kept: int = Field(description="Rows trained on.")
    cut: int = Field(0, description="Rows trained on that were shortened to the length limit.")
    dropped: int = Field(0, description="Rows left out for their length.")
    duplicates: int = Field(0, description="Rows left out as exact duplicates.")
    overlap: int = Field(0, description="Rows left out because the evaluation data holds them too.")
    empty: int = Field(0, description="Rows left out because nothing in them is trained on.")
    left_out: int = Field(0, description="Rows that the user's function, the format or the objective left out.")
    held_out: int = Field(0, description="Rows held out for evaluation.")
    tokens: int = Field(0, description="Tokens of the rows trained on.")
    tokens_lost: int = Field(0, description="Tokens lost to the length limit.")
    answers_lost: int = Field(0, description="Rows that lost every trained token to the limit.")
    trained_share: Number = Field(None, description="Share of the tokens that carry loss.")


class Data(Part):
    """The data summary."""

    sources: tuple[Source, ...] = Field((), description="One row per training source.")
    held_out: int | None = Field(None, description="Rows held out for evaluation.")
    warnings: tuple[Text, ...] = Field((), description="What looked wrong and was not fatal.")


class Example(Part):
    """One prompt answered by the base and by the tuned model."""

    prompt: Text = Field(description="What was asked.")
    reference: Text | None = Field(None, description="The expected answer.")
    before: Text = Field(description="The base model's answer.")
    after: Text = Field(description="The tuned model's answer.")
    score_before: Number = Field(None, description="Score of the base model's answer; higher is better.")
    score_after: Number = Field(None, description="Score of the tuned model's answer.")
    task: str = Field("", description="The measure this example belongs to.")

    @property
    def gain(self) -> float:
        """How far the score rose; 0 without scores."""
        if self.score_before is None or self.score_after is None:
            return 0.0
        return self.score_after - self.score_before


class HardRow(Part):
    """A training row the tuned model still finds unlikely: often a faulty row."""

    where: str = Field(description="FILE:LINE.")
    text: Text = Field(description="The row as rendered.")
    loss: Number = Field(description="Mean loss per trained token at the end.")


class Bin(Part):
    """Answers of about one confidence."""

    confidence: float = Field(description="Mean probability the model gave its answers.", ge=0, le=1)
    accuracy: float = Field(description="Share that was right.", ge=0, le=1)
    count: int = Field(description="Answers.", ge=0)


class Calibration(Part):
    """Whether stated probabilities can be believed, before and after."""

    task: str = Field(description="The measure's name.")
    before: tuple[Bin, ...] = Field(description="The base model's bins.")
    after: tuple[Bin, ...] = Field(description="The tuned model's bins.")
    error_before: Number = Field(None, description="Expected calibration error of the base model.")
    error_after: Number = Field(None, description="Expected calibration error of the tuned model.")


class FormatScore(Part):
    """The accuracy under one format of the prompt; None where the search did not measure it on every row."""

    format: Text = Field(description="The format, TEXT standing for the prompt's own text.")
    before: Number = Field(description="The base model's accuracy.")
    after: Number = Field(description="The tuned model's accuracy.")


class Formats(Part):
    """Accuracy under formats of the prompt that mean the same, before and after."""

    task: str = Field(description="The measure's name.")
    formats: tuple[FormatScore, ...] = Field(description="Every format measured, the prompt as it is first.")


class Sensitivity(Part):
    """How far the likelihood of a response moves with the wording of its prompt, before and after."""

    task: str = Field(description="The measure's name.")
    before: tuple[float, ...] = Field(description="The base model's values per example, rising, in nats per token.")
    after: tuple[float, ...] = Field(description="The tuned model's values, rising.")


class GridRow(Part):
    """A line of a table, before and after."""

    name: Text = Field(description="What the line is about.")
    before: tuple[Number, ...] = Field(description="The base model's numbers, by column.")
    after: tuple[Number, ...] = Field(description="The tuned model's numbers.")


class Grid(Part):
    """Numbers of a measure that are no mean over examples, so that they have no interval."""

    task: str = Field(description="The measure's name.")
    title: str = Field(description="What the table shows.")
    columns: tuple[str, ...] = Field(description="Headings.")
    rows: tuple[GridRow, ...] = Field(description="Its lines.")

    def shown(self) -> tuple[list[str], list[tuple[str, list[tuple[Number, Number]]]]]:
        """Headings, and per line its name and (before, after) under each heading: the shorter way across."""
        across, down = list(self.columns), [row.name for row in self.rows]
        cells = [list(zip(row.before, row.after, strict=True)) for row in self.rows]
        if len(across) > len(down):
            across, down, cells = down, across, [list(line) for line in zip(*cells, strict=True)]
        return across, list(zip(down, cells, strict=True))


class FewShot(Part):
    """The base model with worked examples in its prompt: what could be had without tuning."""

    name: str = Field(description="The measure's name.")
    shots: int = Field(description="Worked examples in the prompt.", ge=1)
    value: Number = Field(description="The base model's value with them.")


class Spread(Part):
    """How far the tuned model's score and answers move with the evaluation's batch size alone."""

    name: str = Field(description="The measure's name.")
    metric: str = Field(description="How it is measured.")
    batches: tuple[int, ...] = Field(description="Positions computed at once.")
    scores: tuple[float, ...] = Field(description="The score at each of them.")
    changed: int = Field(description="Answers that are not the same in all of them.")
    n: int = Field(description="Examples.")


class About(Part):
    """What was tuned, in words."""

    model: str = Field(description="The base model as the recipe names it.")
    adapter: str = Field(description="The adapter's method.")
    objective: str = Field(description="The objective's method.")
    started: str = Field(description="Date and time of the start, ISO 8601.")


class Evidence(Part):
    """Everything a run measured, with the circumstances."""

    verdict: Text = Field(description="One sentence: what got better, what got worse.")
    about: About | None = Field(None, description="What was tuned.")
    measures: tuple[Measure, ...] = Field((), description="Measured before and after; empty if nothing was measured.")
    cost: Cost = Field(description="Tokens, time, memory, operations.")
    plan: Plan | None = Field(None, description="Prediction beside fact.")
    settings: Settings | None = Field(None, description="Circumstances the numbers depend on.")
    data: Data = Field(Data(), description="What became of the rows.")
    examples: tuple[Example, ...] = Field((), description="Worst regressions first, then best gains.")
    hardest: tuple[HardRow, ...] = Field((), description="Training rows with the highest loss at the end.")
    calibration: tuple[Calibration, ...] = Field((), description="Reliability where answers have probabilities.")
    formats: tuple[Formats, ...] = Field((), description="Accuracy by prompt format.")
    sensitivity: tuple[Sensitivity, ...] = Field((), description="Sensitivity to the wording, by example.")
    grids: tuple[Grid, ...] = Field((), description="Tables of measures that have some.")
    few_shot: tuple[FewShot, ...] = Field((), description="The base model with examples in its prompt.")
    spread: tuple[Spread, ...] = Field((), description="The tuned model measured at several batch sizes.")
    versions: Mapping[str, str] = Field({}, description="Package -> version.")

    def save(self, folder: Path) -> Path:
        """Writes `evidence.json` into `folder`, whole or not at all; returns its path."""
        path = folder / FILE
        output.write(path, json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
        return path

    @staticmethod
    def load(path: Path) -> Evidence:
        """Reads `evidence.json` (or the one in a folder).

        Raises `BadInput` when the file is missing or is not evidence.
        """
        file = path / FILE if path.is_dir() else path
        try:
            return Evidence.model_validate_json(file.read_bytes())
        except OSError as error:
            raise BadInput(f"the evidence cannot be read: {error.strerror}", file=file) from None
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in fault["loc"])
            raise BadInput(f"not the evidence of a run: {fault['msg']}", file=file, field=field or None) from None
