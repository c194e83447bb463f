import math
import subprocess
import sys
import time
from statistics import median

import pytest

from tunewright import bench
from tunewright.bench.jobs import Job, sequences
from tunewright.errors import BadInput


def test_a_tiny_comparison_measures_both_sides_in_processes_of_their_own():
    found = bench.compare(["1m"], repeats=1, peer=False, precisions=["fp32"], startup=False)
    [row] = found["rows"]
    assert row["size"] == "1m" and row["precision"] == "fp32" and row["peer"] is None and row["times_peer"] is None
    assert row["ours"] > 0 and row["by_hand"] > 0 and math.isclose(1 + row["overhead"], row["by_hand"] / row["ours"])
    assert 0 < row["peak_share"] < 1 and row["ours_memory"] > 1e8
    assert "| 1m fp32 |" in found["table"] and found["machine"]["cores"]


def test_sizes_are_about_what_their_names_say(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    for name, millions in (("7m", 7), ("70m", 70)):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(LlamaConfig(**bench.SIZES[name], tie_word_embeddings=True))
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.1)


def test_all_sides_see_sequences_of_the_stated_lengths_with_loss_on_completions():
    table = sequences(Job("", "", "fp32", 40), 512)
    completions = [table.weights[a:b].sum() for a, b in zip(table.starts[:-1], table.starts[1:], strict=True)]
    assert median(completions) == pytest.approx(110, rel=0.05) and min(completions) >= 77 and max(completions) <= 143
    assert table.columns["prompt"].mean() == pytest.approx(90, rel=0.05)
    assert (table.lengths == table.columns["prompt"] + completions).all() and table.ids.max() < 512


def test_an_unknown_size_is_refused():
    with pytest.raises(BadInput, match="no such size"):
        bench.compare(["7x"], 1, False)


def test_help_starts_without_loading_torch():
    code = "import sys, tunewright.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    took = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tunewright.cli", "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    # Alone it takes well under one second; a loaded machine is slower.
    assert median(took) < 4
