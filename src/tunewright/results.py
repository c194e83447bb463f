"""What a run leaves behind: the trained tensors, the evidence, the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tunewright import machine, output
from tunewright.adapters._peft import from_peft, save_peft, save_prompt, to_peft
from tunewright.costs import flops_of
from tunewright.evaluate.base import Floats, Scores
from tunewright.evaluate.likelihood import sequence_losses
from tunewright.evaluate.measure import compare, verdict
from tunewright.evaluate.metrics.calibration import BINS, bin_of, expected_calibration_error
from tunewright.models.shards import whole
from tunewright.report import evidence as proof
from tunewright.report import html
from tunewright.train.loop import Loop
from tunewright.train.memory import Phase, peak_memory
from tunewright.train.rehearsal import Rehearsal

if TYPE_CHECKING:
    from tunewright.assembly import Assembly

SHOWN = 10
"""Examples shown before and after."""

JUDGED = 512
"""Training rows looked at for the hardest."""


def save_adapter(folder: Path, assembly: Assembly) -> None:
    """Writes the trained tensors: in PEFT's format where it has one for the adapter, and under their own names where that
    format does not hold them as they are."""
    attached = assembly.attached
    folder.mkdir(exist_ok=True)
    tensors = {name: whole(value).cpu().contiguous() for name, value in attached.state().items()}
    export = attached.as_lora()
    if export is not None:
        save_peft(folder, export, assembly.recipe.model.path)
    elif (prompt := attached.as_prompt(tensors)) is not None:
        save_prompt(folder, prompt, assembly.recipe.model.path)
    if export is None or not _same(from_peft(to_peft(export)), tensors):
        save_file(tensors, folder / output.OWN_WEIGHTS, {"format": "pt"})


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name].cpu(), other[name]) for name in other)


def evidence_of(
    assembly: Assembly,
    loop: Loop,
    before: Sequence[Scores],
    after: Sequence[Scores],
    few_shot: Sequence[Scores],
    hardest: Sequence[proof.HardRow],
    trial: Rehearsal | None,
    phases: Sequence[Phase],
    started: datetime,
    warnings: Iterable[str],
) -> proof.Evidence:
    """Everything the run measured, as it is written down."""
    measures = compare(before, after, few_shot)
    return proof.Evidence(
        verdict=verdict(measures),
        about=proof.About(
            model=assembly.recipe.model.path,
            adapter=assembly.recipe.adapter.name,
            objective=assembly.recipe.objective.name,
            started=started.isoformat(timespec="seconds"),
        ),
        measures=tuple(proof.Measure.model_validate(one) for one in measures),
        cost=cost_of(assembly, loop, phases),
        plan=_plan(loop, trial),
        settings=_settings(assembly, loop),
        data=_data(assembly, [*assembly.data.warnings, *warnings]),
        examples=tuple(_examples(before, after)),
        hardest=tuple(hardest),
        calibration=tuple(_calibrations(before, after)),
        formats=tuple(_formats(before, after)),
        sensitivity=tuple(_sensitivities(before, after)),
        grids=tuple(grids(before, after)),
        few_shot=tuple(proof.FewShot(name=one.name, shots=one.details["shots"], value=one.score) for one in few_shot),
        versions=machine.versions(),
    )


def write_report(folder: Path, found: proof.Evidence) -> None:
    """Writes `evidence.json` and `report.html`."""
    found.save(folder)
    html.write(folder, found, folder / output.METRICS, (folder / output.RECIPE).read_text())


def cost_of(assembly: Assembly, loop: Loop, phases: Sequence[Phase]) -> proof.Cost:
    """Tokens, seconds of the steps alone, memory (whole and by phase) and operations."""
    state = loop.state
    return proof.Cost(
        tokens=state.tokens,
        seconds=state.seconds,
        tokens_per_second=state.tokens / state.seconds if state.seconds else None,
        peak_memory_bytes=peak_memory(),
        train_flops=flops_of(loop, assembly),
        peak_by_phase=tuple(
            proof.PhasePeak(
                phase=one.name,
                peak_memory_bytes=one.peak_bytes,
                device_memory_bytes=one.device_bytes,
                so_far=one.so_far,
            )
            for one in phases
        ),
    )


def _plan(loop: Loop, trial: Rehearsal | None) -> proof.Plan | None:
    if trial is None:
        return None
    planned = float(loop.plan.lengths.mean()) * sum(len(loop.plan.step(step)) for step in range(loop.total))
    return proof.Plan(
        predicted_memory_bytes=trial.peak_memory_bytes,
        actual_memory_bytes=peak_memory(),
        predicted_seconds=trial.seconds_per_token * planned,
        actual_seconds=loop.state.seconds,
    )


def _settings(assembly: Assembly, loop: Loop) -> proof.Settings:
    parameters = list(assembly.policy.parameters())
    dtype = torch.bfloat16 if assembly.precision == "bf16" else torch.float32
    flops = flops_of(loop, assembly) / loop.state.seconds if loop.state.seconds else None
    return proof.Settings(
        dtype=assembly.precision,
        batch=assembly.evaluation_tokens,
        device=str(assembly.world.device),
        threads=torch.get_num_threads(),
        seed=assembly.recipe.train.seed,
        layout=assembly.settings.layout,
        trained_parameters=sum(p.numel() for p in assembly.attached.trained().values()),
        all_parameters=sum(p.numel() for p in parameters),
        steps=loop.state.step,
        share_of_peak=flops / machine.matmul_flops(dtype) / assembly.world.size if flops else None,
    )


def _data(assembly: Assembly, warnings: Sequence[str]) -> proof.Data:
    reports = assembly.data.sources
    return proof.Data(
        sources=tuple(
            proof.Source(
                name=r.name, format=r.format, rows_in=r.rows, rows_kept=r.kept, cut=r.cut, dropped=r.dropped,
                duplicates=r.duplicates, overlap=r.overlap, empty=r.empty, left_out=r.left_out, held_out=r.held_out, tokens=r.tokens, tokens_lost=r.tokens_lost,
                answers_lost=r.answers_lost, trained_share=r.trained_share,
            )
            for r in reports if r.role == "train"
        ),
        held_out=len(assembly.data.eval),
        warnings=tuple(dict.fromkeys(warnings)),
    )  # fmt: skip


def _examples(before: Sequence[Scores], after: Sequence[Scores]) -> list[proof.Example]:
    """The answers that changed most: worst regressions first, then best gains, then others."""
    found: list[tuple[float, proof.Example]] = []
    for b in before:
        a = next((one for one in after if one.name == b.name), None)
        if a is None or not b.answers or not a.answers:
            continue
        sign = 1.0 if b.higher_is_better else -1.0
        for index in range(len(b.ids)):
            gain = sign * float(a.values[index] - b.values[index])
            example = proof.Example(
                prompt=b.prompts[index],
                reference=b.references[index] if b.references else None,
                before=b.answers[index],
                after=a.answers[index],
                score_before=float(b.values[index]) if b.metric != "stop_rate" else None,
                score_after=float(a.values[index]) if b.metric != "stop_rate" else None,
                task=b.name,
            )
            found.append((gain, example))
    worse = [e for g, e in sorted((p for p in found if p[0] < 0), key=lambda p: p[0])][: SHOWN // 2]
    better = [e for g, e in sorted((p for p in found if p[0] > 0), key=lambda p: -p[0])][: SHOWN - len(worse)]
    same = [e for g, e in found if g == 0][: SHOWN - len(worse) - len(better)]
    return [*worse, *better, *same]


def hardest_rows(assembly: Assembly) -> list[proof.HardRow]:
    """The training rows that the model finds least likely, of at most 512 spread evenly over them."""
    table = assembly.data.train
    chosen = np.unique(np.linspace(0, len(table) - 1, min(JUDGED, len(table))).round().astype(np.int64))
    losses, weights = sequence_losses(assembly.policy, table.taken(chosen), assembly.evaluation_tokens)
    mean = losses / np.maximum(weights, 1e-12)
    worst = np.argsort(-mean)[:SHOWN]
    decode = assembly.loaded.tokenizer.decode
    return [
        proof.HardRow(
            where=table.where(int(chosen[i])),
            text=decode(table.ids[table.starts[chosen[i]] : table.starts[chosen[i] + 1]].tolist()),
            loss=float(mean[i]),
        )
        for i in worst
        if weights[i] > 0
    ]


def _calibrations(before: Sequence[Scores], after: Sequence[Scores]) -> list[proof.Calibration]:
    pairs = [(b, a) for b, a in _paired(before, after) if b.confidences is not None]
    made = []
    for b, a in pairs:
        sides = [(np.asarray(s.confidences), np.asarray(s.correct, dtype=np.float64)) for s in (b, a)]
        errors = [expected_calibration_error(*side) for side in sides]
        made.append(
            proof.Calibration(
                task=b.name,
                before=_bins(*sides[0]),
                after=_bins(*sides[1]),
                error_before=errors[0],
                error_after=errors[1],
            )
        )
    return made


def _formats(before: Sequence[Scores], after: Sequence[Scores]) -> list[proof.Formats]:
    """The accuracy of every format that either model was measured under."""
    made = []
    for b, a in _paired(before, after):
        if accuracies := b.details.get("formats"):
            both = dict.fromkeys([*accuracies, *a.details["formats"]])
            scores = [
                proof.FormatScore(format=one, before=accuracies.get(one), after=a.details["formats"].get(one))
                for one in both
            ]
            made.append(proof.Formats(task=b.name, formats=tuple(scores)))
    return made


def grids(before: Sequence[Scores], after: Sequence[Scores]) -> Iterator[proof.Grid]:
    """The tables of the tasks that have some, of base and tuned model."""
    for b, a in _paired(before, after):
        for one, other in zip(b.grids, a.grids, strict=True):
            names = dict.fromkeys([*one.rows, *other.rows])
            gap = (None,) * len(one.columns)
            rows = [
                proof.GridRow(name=name, before=tuple(one.rows.get(name, gap)), after=tuple(other.rows.get(name, gap)))
                for name in names
            ]
            yield proof.Grid(task=b.name, title=one.title, columns=one.columns, rows=tuple(rows))


def _sensitivities(before: Sequence[Scores], after: Sequence[Scores]) -> list[proof.Sensitivity]:
    rising = lambda scores: tuple(np.sort(scores.values).tolist())
    return [
        proof.Sensitivity(task=b.name, before=rising(b), after=rising(a))
        for b, a in _paired(before, after)
        if b.metric == "posix"
    ]


def _paired(before: Sequence[Scores], after: Sequence[Scores]) -> list[tuple[Scores, Scores]]:
    return [(b, a) for b in before for a in after if b.name == a.name]


def _bins(confidences: Floats, correct: Floats) -> tuple[proof.Bin, ...]:
    where = bin_of(confidences)
    return tuple(
        proof.Bin(
            confidence=float(confidences[inside].mean()),
            accuracy=float(correct[inside].mean()),
            count=int(inside.sum()),
        )
        for inside in (where == number for number in range(BINS))
        if inside.any()
    )
