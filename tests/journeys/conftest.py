"""A tiny model on disk, and the real models and data beside the checkout."""

from pathlib import Path

import pytest
from command_line import pairs, rows_file

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared():
    """The folder of real models and data beside the checkout."""
    folder = CHECKOUT.parent / "shared"
    if not (folder / "models" / "tinystories_llama_3m").is_dir():
        pytest.skip("the real models and data are not beside the checkout (../shared)")
    return folder


@pytest.fixture(scope="session")
def llama(shared):
    """A real pretrained model that writes short stories."""
    return shared / "models" / "tinystories_llama_3m"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny random model with a tokenizer of characters."""
    from tunewright.testing.models import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def small(tiny, tmp_path):
    """A recipe for the tiny model that runs in about a second, as plain values to be changed."""
    return {
        "model": str(tiny),
        "data": {
            "train": str(rows_file(tmp_path / "train.jsonl", pairs(60))),
            "eval": str(rows_file(tmp_path / "eval.jsonl", pairs(12, 60))),
        },
        "adapter": {"method": "lora", "rank": 4},
        "optimizer": {"method": "adamw", "lr": 1e-2},
        "train": {"steps": 6, "tokens_per_step": 256, "precision": "fp32", "trackers": [], "checkpoint_every": 2},
        "evaluate": ["perplexity"],
    }
