"""A tiny recipe to compare, and finished comparisons made of numbers alone."""

import numpy as np
import pytest
from comparison_rows import rows


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A recipe for a tiny model that trains in less than a second."""
    from tunewright.testing.models import tiny_folder

    folder = tmp_path_factory.mktemp("small")
    return {
        "model": str(tiny_folder(folder / "tiny")),
        "data": {"train": rows(folder / "train.jsonl", 60), "eval": rows(folder / "eval.jsonl", 12, 60)},
        "adapter": {"method": "lora", "rank": 4},
        "optimizer": {"method": "adamw", "lr": 1e-2},
        "train": {"steps": 4, "tokens_per_step": 256, "precision": "fp32"},
        "evaluate": ["perplexity"],
    }


@pytest.fixture
def outcome(tmp_path):
    """Makes a comparison of arms whose scores [seeds, examples] are given."""
    from tunewright.comparison.outcome import ArmOutcome, Comparison
    from tunewright.evaluate.base import Scores

    def made(values, higher=True, **options):
        arms = []
        for name, each in values.items():
            each = np.asarray(each, dtype=np.float64)
            costs = {
                key: np.full(len(each), 1.0 + len(arms))
                for key in ("tokens", "steps", "seconds", "flops", "joules", "peak_memory_bytes", "trained_parameters",
                            "wall_seconds")
            }  # fmt: skip
            arms.append(ArmOutcome(name, {"model": "nano"}, {"quality": each.mean(1)}, {"quality": each}, costs))
        n = each.shape[1]
        about = Scores(
            "quality", "exact_match", "target", "share", higher, each[0], np.ones(n), [str(k) for k in range(n)]
        )
        return Comparison(
            tmp_path, tuple(arms), "quality", tuple(range(len(each))), None, {"quality": about}, {}, **options
        )

    return made
