"""Training speed, memory and start-up measured here: ours, a loop written by hand, and TRL with PEFT, side by side.

Every side is a process of its own on the same weights and the same sequences. The processes take turns, a few steps at
a time, so that whatever else the machine does falls on all of them alike; ratios are medians over the turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunewright.adapters.base import Attached
from tunewright.data.batches import Indices, Plan, Share
from tunewright.data.table import Table
from tunewright.errors import BadInput, Fault, nearest

ROWS = 8
"""Sequences of an optimizer step."""
WARM_UP = 2
"""Steps before the first one that counts."""
STEPS = 2
"""Steps of a turn."""
RANK = 16
PROMPT, COMPLETION = (63, 117), (77, 143)
"""Shortest and longest, in tokens."""

SIZES = {
    "1m": {
        "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 2048,
    },
    "7m": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": 8192,
    },
    "70m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152,
    },
}  # fmt: skip
"""Name -> configuration of a Llama with tied embeddings and random weights."""

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Job:
    """What every side of a comparison is to do: `steps` optimizer steps on the checkpoint in `folder`."""

    side: str
    folder: str
    precision: str
    steps: int

    @property
    def dtype(self) -> torch.dtype:
        """The format of the model's weights."""
        return PRECISIONS[self.precision]


@dataclass(frozen=True)
class Row:
    """One size and precision: tokens per second, peak resident bytes and ratios; None where there is no peer."""

    size: str
    precision: str
    parameters: int
    ours: float
    by_hand: float
    peer: float | None
    overhead: float
    times_peer: float | None
    peak_share: float
    ours_memory: int
    by_hand_memory: int
    peer_memory: int | None

    @property
    def memory_share(self) -> float | None:
        """Our peak memory over the peer's."""
        return self.ours_memory / self.peer_memory if self.peer_memory else None


def compare(
    sizes: Sequence[str], repeats: int, peer: bool, precisions: Sequence[str] = tuple(PRECISIONS), startup: bool = True
) -> dict[str, Any]:
    """Measures every size in every precision, `repeats` turns of each side.

    Returns `table` (text), `rows`, `startup` (seconds) and `machine`. Raises `BadInput` for a size there is not.
    """
    from tunewright import machine

    for size in sizes:
        if size not in SIZES:
            raise BadInput(
                "no such size", field="--size", found=size, expected=", ".join(SIZES), hint=nearest(size, SIZES)
            )
    missing = [name for name in ("trl", "peft") if peer and find_spec(name) is None]
    sides = ["ours", "by_hand", *(["peer"] if peer and not missing else [])]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            for precision in precisions:
                rows.append(_row(size, precision, sides, repeats, Path(scratch)))
        started = _startup(Path(scratch)) if startup else {}
    found = {"machine": machine.hardware(), "versions": {**machine.versions(), **_version("trl")}}
    return {
        "table": _table(rows, started, found, missing, repeats),
        "rows": [{**asdict(row), "memory_share": row.memory_share} for row in rows],
        "startup": started,
        **found,
    }


def _row(size: str, precision: str, sides: Sequence[str], repeats: int, scratch: Path) -> Row:
    from tunewright.machine import matmul_flops

    folder = scratch / f"{size}-{precision}"
    parameters, flops_per_step = _write_model(folder, SIZES[size], PRECISIONS[precision])
    job = Job("", str(folder), precision, WARM_UP + repeats * STEPS)
    tokens = _rows(job, 2).lengths.reshape(-1, ROWS).sum(1)
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    peaks = []
    with _started(job, sides) as running:
        for turn in range(repeats):
            first = WARM_UP + turn * STEPS
            for side in sides if turn % 2 == 0 else reversed(sides):
                speeds[side].append(float(tokens[first : first + STEPS].sum()) / running[side].take(STEPS))
            peaks.append(matmul_flops(PRECISIONS[precision]))
        memory = {side: running[side].end() for side in sides}
    against = lambda side: median(a / b for a, b in zip(speeds["ours"], speeds[side], strict=True))
    ours, has_peer = median(speeds["ours"]), "peer" in sides
    return Row(
        size,
        precision,
        parameters,
        ours,
        median(speeds["by_hand"]),
        median(speeds["peer"]) if has_peer else None,
        1 / against("by_hand") - 1,
        against("peer") if has_peer else None,
        ours * flops_per_step / float(tokens.mean()) / max(peaks),
        memory["ours"],
        memory["by_hand"],
        memory.get("peer"),
    )


def _write_model(folder: Path, shape: dict[str, int], dtype: torch.dtype) -> tuple[int, float]:
    """Writes a checkpoint; returns its parameters and the operations of a training step with the adapter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunewright.adapters.low_rank.lora import LoRA
    from tunewright.costs import training_flops
    from tunewright.models.policy import Policy
    from tunewright.testing.models import tiny_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(**shape, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model = LlamaForCausalLM(config).to(dtype)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    parameters = sum(p.numel() for p in model.parameters())
    LoRA(rank=RANK).attach(model)
    tokens, predicted = ROWS * (sum(PROMPT) + sum(COMPLETION)) // 2, ROWS * sum(COMPLETION) // 2
    return parameters, training_flops(Policy(model), tokens, predicted)


def _rows(job: Job, vocabulary: int) -> Table:
    """Random sequences for all steps, the loss on completions alone: the same lengths whatever the vocabulary."""
    rng = np.random.default_rng(0)
    count = job.steps * ROWS
    prompts = rng.integers(PROMPT[0], PROMPT[1] + 1, count)
    lengths = prompts + rng.integers(COMPLETION[0], COMPLETION[1] + 1, count)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    return Table(
        rng.integers(3 % vocabulary, vocabulary, starts[-1]).astype(np.int32),
        (within >= np.repeat(prompts, lengths)).astype(np.float32),
        starts,
        {name: np.zeros(count, dtype=np.int64) for name in ("source", "file", "line")} | {"prompt": prompts},
        files=("random",),
    )


class _Running:
    """A side at work in its own process."""

    def __init__(self, job: Job, log: Path) -> None:
        self._log, self._side = log, job.side
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunewright.bench", json.dumps(asdict(job))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def take(self, steps: int) -> float:
        """Seconds that `steps` further steps took."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self.heard())

    def end(self) -> int:
        """Ends the process; its peak resident memory in bytes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = int(self.heard())
        self._process.wait()
        return peak

    def heard(self) -> str:
        """What the process says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = (self._log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            raise Fault(f"the side '{self._side}' of the comparison failed: {last}")
        return line

    def kill(self) -> None:
        """Stops the process, whatever it does."""
        self._process.kill()
        self._process.wait()


@contextmanager
def _started(job: Job, sides: Sequence[str]) -> Iterator[dict[str, _Running]]:
    running: dict[str, _Running] = {}
    try:
        for side in sides:
            running[side] = _Running(replace(job, side=side), Path(job.folder) / f"{side}.log")
            running[side].heard()
        yield running
    finally:
        for one in running.values():
            one.kill()


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
            self._say(_peak_memory())
            raise SystemExit
        self._left, self._since = int(order), time.perf_counter()

    def _say(self, value: float) -> None:
        self._out.write(f"{value}\n")
        self._out.flush()


def _peak_memory() -> int:
    # A process inherits the peak of `ru_maxrss` from the one that started it, unlike this.
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    from tunewright.train.rehearsal import peak_memory

    return peak_memory()


class _InOrder(Plan):
    """Steps of a fixed number of sequences, in the table's order."""

    @property
    def total(self) -> int:
        return len(self.lengths) // ROWS

    def step(self, step: int) -> Indices:
        return np.arange(step * ROWS, (step + 1) * ROWS)


def _ours(job: Job, gate: _Gate) -> None:
    from tunewright.costs import micro_batch_tokens, width_multiple
    from tunewright.hooks import Hook
    from tunewright.models.load import load
    from tunewright.pipeline import attach
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
    table = _rows(job, loaded.policy.model.config.vocab_size)
    plan = _InOrder(table.lengths, table.columns["source"], (Share(),), 1, 0)  # type: ignore[arg-type]
    settings = Settings(
        micro_batch_tokens=micro_batch_tokens(world.device),
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
    limit, multiple = micro_batch_tokens(device), width_multiple(device, job.precision)
    table = _rows(job, model.config.vocab_size)
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


def _peer(job: Job, gate: _Gate) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Held(TrainerCallback):
        def on_step_end(self, *args: Any, **options: Any) -> None:
            gate.passed()

    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=job.dtype)
    table = _rows(job, model.config.vocab_size)
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
            gradient_checkpointing=False, train_sampling_strategy="sequential", save_strategy="no", report_to="none",
            disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(job.folder),
        peft_config=LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Held()],
    ).train()  # fmt: skip


_WORK: dict[str, Callable[[Job, _Gate], None]] = {"ours": _ours, "by_hand": _by_hand, "peer": _peer}


def _startup(scratch: Path) -> dict[str, float | None]:
    """Seconds to `--help`, and to the first step of the embedded model (None where its weights are not there)."""
    from tunewright.models.load import EMBEDDED_FOLDER

    command = [sys.executable, "-m", "tunewright.cli"]
    helped = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([*command, "--help"], check=True, capture_output=True)
        helped.append(time.perf_counter() - started)
    first = None
    if (EMBEDDED_FOLDER / "model.safetensors").exists():
        recipe, output = scratch / "first.yaml", scratch / "first"
        recipe.write_text(
            "model: nano\ndata: {train: {path: 'nano:word_problems/train', limit: 512}}\n"
            "train: {steps: 4}\nevaluate: []\n"
        )
        first = _until_written([*command, "run", str(recipe), "--output", str(output)], output / "metrics.jsonl")
    return {"help": median(helped), "first_step": first}


def _until_written(command: Sequence[str], path: Path) -> float:
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (path.exists() and path.stat().st_size):
        if process.poll() is not None:
            raise Fault("the run of the embedded model failed before its first step")
        time.sleep(0.02)
    took = time.perf_counter() - started
    process.wait()
    return took


def _version(package: str) -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package)} if find_spec(package) else {}


def _table(
    rows: Sequence[Row], started: dict[str, float | None], found: dict[str, Any], missing: Sequence[str], repeats: int
) -> str:
    hardware, versions = found["machine"], found["versions"]
    named = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "transformers", "peft", "trl") if name in versions
    )
    lines = [
        f"{hardware['cores']} cores, {hardware['threads']} threads, {hardware['capability']}"
        + (f", {hardware['accelerator']}" if hardware["accelerator"] else "")
        + f"; {named}",
        f"LoRA rank {RANK} on all linear layers, {ROWS} sequences a step, loss on completions; medians of {repeats}",
        "",
        "              |       tokens per second       |  ours  | overhead | share  |     peak memory, MB",
        "model         |    ours    by hand        TRL |  / TRL | by hand  | of peak|   ours    TRL  ours/TRL",
    ]
    for row in rows:
        peer, times = (f"{row.peer:,.0f}", f"{row.times_peer:.2f}x") if row.peer and row.times_peer else ("-", "-")
        memory, share = (
            (f"{row.peer_memory / 1e6:,.0f}", f"{row.memory_share:.2f}x")
            if row.peer_memory and row.memory_share
            else ("-", "-")
        )
        lines.append(
            f"{row.size:>4} {row.precision:<9}|{row.ours:>8,.0f} {row.by_hand:>10,.0f} {peer:>10} |{times:>7} |"
            f"{row.overhead:>+8.1%}  |{row.peak_share:>7.1%} |{row.ours_memory / 1e6:>7,.0f} {memory:>6} {share:>8}"
        )
    if missing:
        lines += ["", f"TRL is not measured: {' and '.join(missing)} not installed (pip install 'tunewright[bench]')"]
    if started:
        first = started["first_step"]
        step = f"{first:.1f} s" if first is not None else "not measured, its weights are not there"
        lines += ["", f"--help: {started['help']:.2f} s; first training step of the embedded model: {step}"]
    return "\n".join(lines)


if __name__ == "__main__":
    _job = Job(**json.loads(sys.argv[1]))
    _WORK[_job.side](_job, _Gate())
