"""What every side of the measurement is to do: models, sequences, steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tunewright.data.table import Table

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


def sequences(job: Job, vocabulary: int) -> Table:
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
