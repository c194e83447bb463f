"""Models that write part of the rows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tunewright.assembly import load_base, read
from tunewright.data.records import Record, Turn
from tunewright.models.writing import ModelWriter, writers
from tunewright.recipe import ModelSpec, Recipe
from tunewright.testing.models import tiny_folder, tiny_tokenizer
from tunewright.train.processes import World


@pytest.fixture
def folder(tmp_path):
    return tiny_folder(tmp_path / "model")


def asking(text, answer):
    return Record((Turn("user", text), Turn("assistant", answer)), "chat")


def test_an_answer_is_at_most_as_long_as_the_records_own(folder):
    writer = ModelWriter(ModelSpec(path=str(folder)), "fp32", "cpu")
    records = [asking("a b c", "x" * n) for n in (1, 5, 20)] + [asking("y" * 200, "too long")]
    said = writer(records, 0.0, 0)
    lengths = [len(tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]) for text in said]
    assert all(0 < length <= most for length, most in zip(lengths, (1, 5, 20), strict=False))
    assert said[3] == "" and said[2].startswith(said[1]) and said[1].startswith(said[0])
    drawn = [writer(records[:3], 1.0, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    writer.unload()
    assert writer(records, 0.0, 0) == said


def test_a_writer_is_identified_by_model_and_files(folder):
    spec = ModelSpec(path=str(folder))
    first = ModelWriter(spec, "fp32", "cpu").digest
    assert ModelWriter(spec, "fp32", "cpu").digest == first
    assert ModelWriter(spec, "bf16", "cpu").digest != first
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rope_theta": 7.0}))
    assert ModelWriter(spec, "fp32", "cpu").digest != first


TEXTS = [{"text": f"the {n}th fox ran over the hill and slept"} for n in range(12)]


@pytest.mark.parametrize("variant", ["teacher", "self", "original"])
def test_a_teacher_of_rows_may_have_another_vocabulary_and_does_not_stay(variant, folder, tmp_path):
    teacher = tiny_folder(tmp_path / "teacher", seed=1, vocab_size=101)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TEXTS))
    recipe = Recipe.of(
        model=str(folder),
        data={
            "train": str(tmp_path / "rows.jsonl"),
            "format": {"method": "half_text_distill", "variant": variant, "temperature": 0.0},
            "cache": False,
        },
        supplies={"teacher": str(teacher)} if variant == "teacher" else {},
    )
    assert list(writers(recipe)) == {"teacher": ["teacher"], "self": ["model"], "original": []}[variant]
    data = read(recipe)
    texts = {row["text"] for row in TEXTS}
    whole = [record.prompt[0].content + " " + record.answer for record in data.eval_records]
    assert whole and all((text in texts) == (variant == "original") for text in whole)
    assert not any(getattr(writer, "_policy", None) for writer in data.completion.writers.values())
    assert load_base(recipe, World.join()).policy._others == {}


def test_a_record_is_asked_without_its_own_answer(folder):
    writer = ModelWriter(ModelSpec(path=str(folder)), "fp32", "cpu")
    one, other = asking("a b c", "xxxx"), asking("a b c", "yyyy")
    assert writer([one], 0.0, 0) == writer([replace(other, line=7)], 0.0, 0)
