"""Real data sets with a real tokenizer (run where they are at hand)."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from tunewright.data.check import check
from tunewright.data.prepare import prepare
from tunewright.data.preview import preview

DEMOS = {
    "alpaca_en_demo.json": ("alpaca", 999),
    "identity.json": ("alpaca", 91),
    "v1_sft_demo.jsonl": ("chat messages", 500),
    "c4_demo.jsonl": ("plain text", 300),
    "wiki_demo.txt": ("plain text", 30),
    "dpo_en_demo.json": ("preference", 300),
    "kto_en_demo.json": ("unpaired", 300),
    "v1_dpo_demo.jsonl": ("preference", 10),
    "glaive_toolcall_en_demo.json": ("sharegpt", 300),
}

POLARITY = {"fields": {"text": "sentence"}, "labels": {"0": "negative", "1": "positive"}}

OTHERS = {
    "gsm8k/test.jsonl": ("question", 1319, {}),
    "sst2/test.tsv": ("classification", 872, POLARITY),
    "hh_rlhf_harmless/test.jsonl.gz": ("preference", 2312, {}),
    "sharegpt_dummy/dummy_conversation.json": ("sharegpt", 500, {}),
    "commonsense/openbookqa/test.json": ("alpaca", 500, {}),
    "alpacafarm_eval/davinci_003_outputs.json": ("alpaca", 805, {}),
    "p3_samples/xsum_DOC_tldr.jsonl": ("prompt and completion", 200, {}),
    "rte/val.jsonl": ("classification", 277, {"fields": {"text": "hypothesis"}}),
    "bbh/navigate.json": ("question", 250, {"fields": {"question": "input", "answer": "target"}}),
    "truthfulqa/TruthfulQA.csv": ("question", 790, {"fields": {"question": "Question", "answer": "Best Answer"}}),
    "superni_csv/with_instructions/task190/test.csv": (
        "prompt and",
        100,
        {"fields": {"prompt": "input", "completion": "output"}},
    ),
    "tinystories_sample/tinystories_sample.txt": ("plain text", 2317, {}),
}


@pytest.fixture(params=["tinystories_llama_3m", "stories260K"])
def real(request, shared):
    return AutoTokenizer.from_pretrained(shared / "models" / request.param)


@pytest.mark.parametrize("name", DEMOS)
def test_demonstration_files(name, shared, real, recipe):
    kind, count = DEMOS[name]
    made = recipe(train=str(shared / "data" / "llamafactory_demos" / name))
    found = check(made)
    assert found.ok, str(found)
    assert found.sources[0].rows == count
    assert kind.lower() in found.sources[0].format.lower()
    shown = preview(
        recipe(train=str(shared / "data" / "llamafactory_demos" / name), limit=60), real, n=1, plain=True, context=512
    )
    assert "with loss" in shown


@pytest.mark.parametrize("name", OTHERS)
def test_other_files(name, shared, recipe):
    kind, count, options = OTHERS[name]
    found = check(recipe(train=str(shared / "data" / name), **options))
    assert found.ok, str(found)
    assert found.sources[0].rows == count
    assert kind in found.sources[0].format.lower()


def test_prepared_rows_start_with_their_prompt(shared, real, recipe):
    made = prepare(recipe(train=str(shared / "data" / "gsm8k" / "test.jsonl"), limit=200, truncation="drop"), real, 512)
    for index, record in enumerate(made.eval_records):
        prompt = made.renderers[record.source].prompt(record)
        start = int(made.eval.starts[index])
        assert made.eval.ids[start : start + len(prompt)].tolist() == prompt
        assert made.eval.columns["prompt"][index] == len(prompt)
    assert made.sources[0].ends == made.sources[0].kept
