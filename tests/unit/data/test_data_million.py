"""A million rows stay within two gigabytes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys
from pathlib import Path
from transformers import PreTrainedTokenizerFast
from tunewright.data.prepare import prepare
from tunewright.recipe import Recipe
tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
made = prepare(Recipe.of(model="unused", data=sys.argv[2]), tokenizer, 512, Path(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([len(made.train) + len(made.eval), peak]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_of_a_million_rows(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        for i in range(1_000_000):
            stream.write(json.dumps({"prompt": f"What is {i} plus two?", "completion": f" It is {i + 2}."}) + "\n")
    asked = [sys.executable, "-c", SCRIPT, str(tmp_path / "tokenizer"), str(path), str(tmp_path / "cache")]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=1100)
    count, peak = json.loads(done.stdout)
    assert count == 1_000_000
    assert peak < 2 * 2**30
