"""The sides of the measurement, each in a process of its own that waits for its turns."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunewright.adapters.base import Attached
from tunewright.bench.jobs import RANK, ROWS, WARM_UP, Job, sequences
from tunewright.data.batches import Indices, Plan, Share
from tunewright.train.memory import high_water


class _Gate:
    """Holds a side's process until its turn; `passed` is called at the end of every optimizer step."""

    def __init__(self) -> None:
        # Libraries print; what the parent reads must be ours alone.
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._left, self._since = WARM_UP, time.perf_counter()

    def passed(self) -> None:
        """Counts a step; at the end of a turn tells its seconds and waits for the next one."""
        self._left -= 1
        if self._left:
            return
        self._say(time.perf_counter() - self._since)
        order = sys.stdin.readline()
        if not order:
            self._say(high_water())
            raise SystemExit
        self._left, self._since = int(order), time.perf_counter()

    def _say(self, value: float) -> None:
        self._out.write(f"{value}\n")
        self._out.flush()


class _InOrder(Plan):
    """Steps of a fixed number of sequences, in the table's order."""

    @property
    def total(self) -> int:
        return len(self.lengths) // ROWS

    def step(self, step: int) -> Indices:
        return np.arange(step * ROWS, (step + 1) * ROWS)


def _ours(job: Job, gate: _Gate) -> None:
    from tunewright.assembly import attach
    from tunewright.costs import micro_batch_tokens, width_multiple
    from tunewright.hooks import Hook
    from tunewright.models.load import load
    from tunewright.recipe import Recipe
    from tunewright.train.loop import Loop, Settings, Step
    from tunewright.train.processes import World

    class Held(Hook):
        def after_step(self, loop: Loop, step: Step) -> None:
            gate.passed()

    recipe: Any = Recipe.of(model=job.folder, data={"train": job.folder}, adapter={"method": "lora", "rank": RANK})
    world = World.join()
    loaded = load(recipe.model, job.precision, world.device)  # type: ignore[arg-type]
    attached: Attached = attach(recipe, loaded, job.precision, world)
    table = sequences(job, loaded.policy.model.config.vocab_size)
    plan = _InOrder(table.lengths, table.columns["source"], (Share(),), 1, 0)  # type: ignore[arg-type]
    settings = Settings(
        micro_batch_tokens=micro_batch_tokens(world.device, loaded.policy.model.config.hidden_size),
        width_multiple=width_multiple(world.device, job.precision),
    )
    optimizer = recipe.optimizer.build(attached.trained())
    Loop(
        loaded.policy, attached, recipe.objective, optimizer, recipe.schedule, table, plan, settings, world, [Held()]
    ).run()


class _HandLoRA(nn.Module):
    """W x + B A x, as one would write it down."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.empty(RANK, base.in_features).uniform_(-1, 1) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out + (x @ self.down.to(x.dtype).T) @ self.up.to(x.dtype).T


def _by_hand(job: Job, gate: _Gate) -> None:
    """The loop a careful person writes for this one job: sorted by length, head on completions alone, no framework."""
    from transformers import AutoModelForCausalLM

    from tunewright.costs import micro_batch_tokens, width_multiple
    from tunewright.models.attention import use_float32

    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=job.dtype).requires_grad_(False).train()
    if job.dtype == torch.bfloat16:
        use_float32(model)
    for parent in list(model.model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, _HandLoRA(layer))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, fused=True)
    device = torch.device("cpu")
    limit, multiple = micro_batch_tokens(device, model.config.hidden_size), width_multiple(device, job.precision)
    table = sequences(job, model.config.vocab_size)
    for step in range(job.steps):
        spans = [(table.starts[i], table.starts[i + 1]) for i in range(step * ROWS, (step + 1) * ROWS)]
        weight = sum(table.weights[a:b].sum() for a, b in spans)
        batch: list[tuple[int, int]] = []
        spans.sort(key=lambda span: span[0] - span[1])
        for number, span in enumerate(spans):
            batch.append(span)
            width = -(-(batch[0][1] - batch[0][0]) // multiple) * multiple
            if number + 1 < len(spans) and (len(batch) + 1) * width <= limit:
                continue
            ids, kept = torch.zeros(2, len(batch), width, dtype=torch.int64)
            for row, (a, b) in enumerate(batch):
                ids[row, : b - a] = torch.from_numpy(table.ids[a:b])
                kept[row, : b - a] = torch.from_numpy(table.weights[a:b])
            rows, cols = kept.nonzero(as_tuple=True)
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[rows, cols - 1]
            loss = F.cross_entropy(model.lm_head(hidden).float(), ids[rows, cols], reduction="sum") / float(weight)
            loss.backward()
            batch = []
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        gate.passed()


def _peer(job: Job, gate: _Gate, **chosen: Any) -> None:
    """TRL's trainer as it comes, but for what is `chosen`."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Held(TrainerCallback):
        def on_step_end(self, *args: Any, **options: Any) -> None:
            gate.passed()

    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=job.dtype)
    table = sequences(job, model.config.vocab_size)
    spans = [slice(a, b) for a, b in zip(table.starts[:-1], table.starts[1:], strict=True)]
    data = Dataset.from_dict(
        {
            "input_ids": [table.ids[span].tolist() for span in spans],
            "completion_mask": [table.weights[span].astype(int).tolist() for span in spans],
        }
    )
    SFTTrainer(
        model,
        args=SFTConfig(
            output_dir=job.folder + "-trl", per_device_train_batch_size=ROWS, max_steps=job.steps,
            bf16=job.dtype == torch.bfloat16, completion_only_loss=True, max_length=None,
            train_sampling_strategy="sequential", save_strategy="no", report_to="none", disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(), **chosen,
        ),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(job.folder),
        peft_config=LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Held()],
    ).train()  # fmt: skip


_WORK: dict[str, Callable[[Job, _Gate], None]] = {
    "ours": _ours,
    "by_hand": _by_hand,
    "peer": _peer,
    "peer_kept": partial(_peer, gradient_checkpointing=False),
}


if __name__ == "__main__":
    _job = Job(**json.loads(sys.argv[1]))
    _WORK[_job.side](_job, _Gate())
