"""Exporting a tuned model: merged weights or a PEFT adapter, checked against the run before anyone relies on it."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tunewright import output
from tunewright.data.batches import collate, micro_batches
from tunewright.errors import BadInput
from tunewright.models.generate import evaluating
from tunewright.pipeline import Run
from tunewright.report.evidence import Evidence
from tunewright.tuned import Tuned

ROWS = 64
"""Held-out rows on which merged and unmerged model are compared."""


@dataclass(frozen=True)
class MergeCheck:
    """How far the merged model is from base plus adapter on held-out tokens.

    Differences of logits (absolute), KL(unmerged || merged) in nats per token, share of equal most likely tokens.
    """

    largest_difference: float
    mean_difference: float
    kl: float
    top1_agreement: float
    tokens: int


def export(
    tuned: Tuned, folder: Path, form: Literal["merged", "adapter"] = "merged", max_kl: float = 0.01
) -> MergeCheck | None:
    """Writes the tuned model into a new folder: a whole checkpoint that transformers loads, or a PEFT adapter.

    Tokenizer, chat template, stop tokens and a model card go with it. A merge whose KL from the unmerged model is over
    `max_kl`, or whose reloaded checkpoint gives other tokens than the merged model, is refused and removed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput("the output folder exists already", file=folder, hint="Choose another --output.")
    if form == "adapter":
        if not (tuned.folder / output.ADAPTER / "adapter_config.json").is_file():
            raise BadInput("PEFT has no format for this adapter", hint="Export it merged.")
        model = tuned.assembly.recipe.model
        changed = {
            "adapter": model.adapter is not None and model.adapter_as == "base",
            "add_tokens": model.add_tokens.tokens,
            "vocabulary": model.vocabulary,
            "context": model.context,
        }
        for field in (field for field, there in changed.items() if there):
            raise BadInput(
                "the adapter alone would be put on another base than it was trained on",
                field=f"model.{field}", hint="Export it merged.",
            )  # fmt: skip
        ignored = shutil.ignore_patterns(output.OWN_WEIGHTS)
        shutil.copytree(tuned.folder / output.ADAPTER, folder, ignore=ignored, dirs_exist_ok=True)
        _companions(tuned, folder, None)
        return None
    check = merge_check(tuned)
    if check.kl > max_kl:
        raise BadInput(
            "merging changes the model", field="max-kl", found=f"KL {check.kl:.2g}, top-1 agreement {check.top1_agreement:.1%}",
            expected=f"a KL of at most {max_kl:g}", hint="Run with precision: fp32, or export the adapter.",
        )  # fmt: skip
    model, attached = tuned.assembly.policy.model, tuned.assembly.attached
    attached.merge()
    try:
        model.generation_config.eos_token_id = sorted(tuned.assembly.subject().stop)
        model.save_pretrained(folder, state_dict=attached.plain_weights())
        _companions(tuned, folder, check)
        _reload(tuned, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        attached.unmerge()
    return check


def save_whole(run: Run, folder: Path) -> None:
    """Writes the model of a run that trained every weight as a checkpoint, in bfloat16 when it computed in that."""
    model = run.assembly.policy.model
    dtype = torch.bfloat16 if run.assembly.precision == "bf16" else torch.float32
    model.config.dtype = dtype
    model.save_pretrained(folder, state_dict={name: value.to(dtype) for name, value in model.state_dict().items()})
    run.assembly.loaded.tokenizer.save_pretrained(folder)


@torch.no_grad()
def merge_check(tuned: Tuned) -> MergeCheck:
    """Compares the logits of base plus adapter with those of the merged weights on held-out rows."""
    before = _logits(tuned)
    tuned.assembly.attached.merge()
    try:
        after = _logits(tuned)
    finally:
        tuned.assembly.attached.unmerge()
    difference = (before - after).abs()
    log_p, log_q = before.log_softmax(-1), after.log_softmax(-1)
    return MergeCheck(
        difference.max().item(),
        difference.mean().item(),
        (log_p.exp() * (log_p - log_q)).sum(-1).mean().item(),
        (before.argmax(-1) == after.argmax(-1)).float().mean().item(),
        len(before),
    )


def _logits(tuned: Tuned) -> torch.Tensor:
    table = tuned.assembly.data.eval
    rows = table.taken(tuned.assembly.subject(ROWS).rows.spread(ROWS))
    found = []
    with evaluating(tuned.assembly.policy):
        import numpy as np

        for group in micro_batches(np.arange(len(rows)), rows.lengths, 2048):
            batch = collate(rows, group)
            at_rows, cols = batch.kept
            found.append(tuned.assembly.policy.logits(batch, at_rows, cols - 1).float())
    return torch.cat(found)


@torch.no_grad()
def _reload(tuned: Tuned, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = tuned.assembly.policy.model
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=next(merged.parameters()).dtype).eval()
    record = tuned.assembly.data.eval_records[0]
    ids = torch.tensor([tuned.assembly.data.renderers[record.source].render(record).ids])
    # Weights that trained are float32 beside shorter ones, as in the run.
    with evaluating(tuned.assembly.policy):
        ours, theirs = merged(ids).logits.float(), again(ids).logits.float()
    if (ours - theirs).norm() > 1e-2 * ours.norm():
        raise BadInput("the exported checkpoint computes other logits than the merged model", file=folder)
    text = "Round trip 12."
    if AutoTokenizer.from_pretrained(folder)(text)["input_ids"] != tuned.assembly.loaded.tokenizer(text)["input_ids"]:
        raise BadInput("the exported tokenizer gives other tokens", file=folder)


def _companions(tuned: Tuned, folder: Path, check: MergeCheck | None) -> None:
    tuned.assembly.loaded.tokenizer.save_pretrained(folder)
    shutil.copy(tuned.folder / "fixtures.json", folder / "fixtures.json")
    (folder / "README.md").write_text(_card(tuned, check))


def _card(tuned: Tuned, check: MergeCheck | None) -> str:
    evidence = Evidence.load(tuned.folder)
    recipe = tuned.assembly.recipe
    rows = [
        f"| {m.name} | {m.metric} | {_number(m.before)} | {_number(m.after)} | {_number(m.low)} to {_number(m.high)} | {m.n} |"
        for m in evidence.measures
    ]
    sources = "\n".join(f"- {s.name}: {s.rows_kept:,} rows, {s.tokens:,} tokens" for s in evidence.data.sources)
    merged = f"\nMerged weights against base plus adapter: {asdict(check)}\n" if check else ""
    return f"""---
base_model: {recipe.model.path}
library_name: {"peft" if check is None else "transformers"}
tags: [tunewright, {recipe.adapter.name}, {recipe.objective.name}]
---

# Tuned from {recipe.model.path}

{evidence.verdict}

| measure | metric | before | after | 95% interval of the change | n |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Adapter `{recipe.adapter.name}`, objective `{recipe.objective.name}`, {evidence.cost.tokens:,} training tokens.

## Data

{sources}
{merged}
## Recipe

```yaml
{(tuned.folder / output.RECIPE).read_text()}```
"""


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"
