"""The ready recipes resolve, say how they are used, and hold what their papers set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.recipe import Recipe

READY = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("file", READY, ids=[file.stem for file in READY])
def test_every_ready_recipe_resolves_and_is_explained(file) -> None:
    assert Recipe.read(file).methods
    assert file.read_text().startswith("# ") and "tunewright run recipes/" in file.read_text()


def test_qlora_is_lora_over_nf4_as_the_paper_has_it() -> None:
    made = Recipe.read(Path(__file__).parents[3] / "recipes" / "qlora.yaml")
    assert made.model.quantize is not None and made.model.quantize.name == "nf4"
    assert made.model.quantize.double_quant and made.model.quantize.block == 64
    assert (made.adapter.name, made.adapter.rank, made.adapter.alpha) == ("lora", 64, 16.0)
    assert made.adapter.target_modules == "all-linear" and made.train.clip == 0.3
