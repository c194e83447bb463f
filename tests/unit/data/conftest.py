"""Small tokenizers, templates and recipes for the tests of the data."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_samples import trained, wrapped
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tunewright.recipe import Recipe


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    """Adds nothing around a text, and marks no beginning."""
    return trained(
        models.BPE(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
        pre_tokenizers.ByteLevel.alphabet(),
    )


@pytest.fixture(scope="session")
def metaspace() -> Tokenizer:
    """Puts `<s>` in front, and marks the beginning of a text as it marks blanks."""
    made = trained(
        models.BPE(unk_token="<unk>"),
        pre_tokenizers.Metaspace(prepend_scheme="first"),
        decoders.Metaspace(),
        ["\n", "▁"],
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    return made


@pytest.fixture
def tokenizer(byte_level: Tokenizer) -> PreTrainedTokenizerFast:
    """Without a chat template."""
    return wrapped(byte_level)


@pytest.fixture
def templated(byte_level: Tokenizer) -> Callable[[str], PreTrainedTokenizerFast]:
    """The same tokenizer with a chat template."""
    return lambda template: wrapped(byte_level, template)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Writes a file: bytes, text, or rows (as JSONL, or as an array where the name ends in .json)."""

    def make(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            bare = name.removesuffix(".gz")
            content = (
                json.dumps(content, indent=1)
                if bare.endswith(".json")
                else "".join(json.dumps(row) + "\n" for row in content)
            )
        raw = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return make


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """A recipe over data options; the model is never loaded."""
    return lambda **data: Recipe.of(model="unused", data={"cache": False, **data})


@pytest.fixture
def shared() -> Path:
    """Real data and models, kept beside the checkout where they are at hand."""
    for parent in Path(__file__).resolve().parents:
        if (parent.parent / "shared" / "data").is_dir():
            return parent.parent / "shared"
    pytest.skip("needs ../shared with real data and models beside the checkout")
