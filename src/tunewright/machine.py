"""What this machine is: versions, memory, processor, and the speed of its matrix products."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from typing import Any

import psutil

PACKAGES = (
    "tunewright",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "accelerate",
    "datasets",
    "numpy",
    "peft",
    "bitsandbytes",
)


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on, where installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in bytes and accelerator."""
    import torch

    memory = psutil.virtual_memory()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory.total,
        "available_bytes": memory.available,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def kind(device: str, processes: int) -> str:
    """The kind of machine in words: runs of one kind take about the same time. `device` is torch's type of it."""
    found = hardware()
    parts = [found["system"], f"{found['cores']} cores", f"{found['threads']} threads", found["capability"]]
    if device != "cpu":
        parts = [found["system"], found["accelerator"] or device]
    return ", ".join([*parts, *([f"{processes} processes"] if processes > 1 else [])])


def matmul_flops(dtype: Any, size: int = 1024, seconds: float = 0.3) -> float:
    """Floating-point operations per second of a product of two square matrices of `size`, best of repeated trials."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, ends = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < ends:
        started = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def prepared_data() -> dict[str, Any]:
    """Where prepared data is kept, how many data sets, their size and the size they may take in bytes."""
    from tunewright.data import cache, pruning

    kept = pruning.entries(cache.root())
    return {
        "folder": str(cache.root()),
        "data_sets": len(kept),
        "bytes": sum(entry.size for entry in kept),
        "limit_bytes": pruning.limit(),
    }


def report() -> dict[str, dict[str, Any]]:
    """Machine, versions, what a run here would use, the prepared data kept here, how well runs here were predicted, and
    which optional packages are there."""
    from importlib.util import find_spec

    from tunewright import hindsight
    from tunewright.models.load import resolve_precision
    from tunewright.train.processes import World

    world = World.join()
    extras = ("peft", "trl", "mlflow", "wandb", "bitsandbytes", "torchao", "vllm", "lm_eval", "ray")
    return {
        "machine": hardware(),
        "versions": versions(),
        "a run would use": {
            "device": str(world.device),
            "processes": world.size,
            "precision": resolve_precision("auto"),
        },
        "prepared data": prepared_data(),
        "actual against planned": hindsight.errors(kind(world.device.type, world.size)),
        "optional packages": {name: "installed" if find_spec(name) else "not installed" for name in extras},
    }
