"""The sides measured in turns, the memory each takes, and how soon a run starts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tunewright.bench.jobs import COMPLETION, PRECISIONS, PROMPT, RANK, ROWS, SIZES, STEPS, WARM_UP, Job, sequences
from tunewright.bench.table import table
from tunewright.errors import BadInput, Fault, nearest


@dataclass(frozen=True)
class Row:
    """One size and precision: tokens per second, peak resident bytes and ratios; None where there is no peer."""

    size: str
    precision: str
    parameters: int
    ours: float
    by_hand: float
    peer: float | None
    peer_kept: float | None
    overhead: float
    times_peer: float | None
    times_peer_kept: float | None
    peak_share: float
    ours_memory: int
    by_hand_memory: int
    peer_memory: int | None
    peer_kept_memory: int | None

    @property
    def memory_share(self) -> float | None:
        """Our peak memory over the peer's."""
        return self.ours_memory / self.peer_memory if self.peer_memory else None

    @property
    def memory_share_kept(self) -> float | None:
        """Our peak memory over that of the peer with activations kept."""
        return self.ours_memory / self.peer_kept_memory if self.peer_kept_memory else None


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
    sides = ["ours", "by_hand", *(["peer", "peer_kept"] if peer and not missing else [])]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            for precision in precisions:
                rows.append(_row(size, precision, sides, repeats, Path(scratch)))
        started = _startup(Path(scratch)) if startup else {}
    found = {"machine": machine.hardware(), "versions": {**machine.versions(), **_version("trl")}}
    return {
        "table": table(rows, started, found, missing, repeats),
        "rows": [
            {**asdict(row), "memory_share": row.memory_share, "memory_share_kept": row.memory_share_kept}
            for row in rows
        ],
        "startup": started,
        **found,
    }


def _row(size: str, precision: str, sides: Sequence[str], repeats: int, scratch: Path) -> Row:
    from tunewright.machine import matmul_flops

    folder = scratch / f"{size}-{precision}"
    parameters, flops_per_step = _write_model(folder, SIZES[size], PRECISIONS[precision])
    job = Job("", str(folder), precision, WARM_UP + repeats * STEPS)
    tokens = sequences(job, 2).lengths.reshape(-1, ROWS).sum(1)
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
        median(speeds["peer_kept"]) if has_peer else None,
        1 / against("by_hand") - 1,
        against("peer") if has_peer else None,
        against("peer_kept") if has_peer else None,
        ours * flops_per_step / float(tokens.mean()) / max(peaks),
        memory["ours"],
        memory["by_hand"],
        memory.get("peer"),
        memory.get("peer_kept"),
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


class _Running:
    """A side at work in its own process."""

    def __init__(self, job: Job, log: Path) -> None:
        self._log, self._side = log, job.side
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunewright.bench.sides", json.dumps(asdict(job))],
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
