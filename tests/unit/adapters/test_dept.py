"""DePT: the budget, what the model reads, padding, the cache, the two rates."""

import json

import numpy as np
import pytest
import torch

from tunewright.adapters import DePT, LoRA
from tunewright.assembly import read
from tunewright.errors import BadInput
from tunewright.models.generate import Decoding, Forward, context_length, evaluating, generate
from tunewright.models.quantize.nf4 import NF4
from tunewright.optimize.optimizers.adamw import AdamW
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny, tiny_folder, tiny_tokenizer
from tunewright.testing.runs import (
    attach,
    bits,
    differing_bits,
    differs,
    disturb,
    logits_of,
    tiny_loop,
    tiny_policy,
)
from tunewright.testing.tables import random_table
from tunewright.train.checkpoint import pack, unpack, write_folder

TABLE = random_table()
SMALL = DePT(prompt_length=5, max_length=8, rank=3)
"""Inputs of the table reach beyond its positions."""

ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma2", "gpt2", "gpt_neox", "phi", "opt", "cohere", "granite")
IDS = torch.arange(3, 14)[None]


def prompted(architecture="llama", method=SMALL, **changes):
    policy = tiny_policy(tiny(architecture, **changes))
    made = attach(method, policy)
    disturb(made, size=0.3)
    return policy, made


@pytest.mark.parametrize(("prompt_length", "rank"), [(40, 45), (60, 30)])
def test_the_budget_of_the_paper(prompt_length, rank):
    method = DePT(prompt_length=prompt_length)
    assert method.rank_of(768) == rank
    assert prompt_length * 768 + (256 + 768) * rank == 100 * 768


def test_how_many_numbers_train():
    for method, rank in ((DePT(prompt_length=10, max_length=32, reference_length=40), 15), (SMALL, 3)):
        trained = attach(method, tiny_policy()).trained()
        m, s = method.prompt_length, method.max_length
        assert sum(p.numel() for p in trained.values()) == m * 32 + (s + 32) * rank


def test_how_it_begins():
    model = tiny()
    made = attach(DePT(prompt_length=50, max_length=500, rank=4, reference_length=60), tiny_policy(model)).trained()
    table = model.get_input_embeddings().weight
    assert all((table == row).all(1).any() for row in made["prompt"])
    assert made["down"].abs().max().item() == pytest.approx(0.5, rel=0.01) and not made["up"].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_the_update_it_is_a_prompt_of_that_length(architecture):
    policy, made = prompted(architecture)
    with torch.no_grad():
        made.trains.up.zero_()
    table = policy.model.get_input_embeddings()
    with torch.no_grad():
        found = policy.model(input_ids=IDS).logits
        with made.disabled():
            read = torch.cat([made.trains.prompt[None], table(IDS)], 1)
            wanted = policy.model(inputs_embeds=read).logits[:, 5:]
    assert found.shape[1] == IDS.shape[1] and differs(wanted, found) < 1e-6


def test_the_formula_with_the_update():
    policy, made = prompted()
    rows = torch.zeros(IDS.shape[1], 32)
    rows[:8] = 8.0 / 3**0.5 * (made.trains.down @ made.trains.up).detach()[: IDS.shape[1]]
    table = policy.model.get_input_embeddings()
    with torch.no_grad():
        found = policy.model(input_ids=IDS).logits
        with made.disabled():
            read = torch.cat([made.trains.prompt[None], table(IDS) + rows], 1)
            wanted = policy.model(inputs_embeds=read).logits[:, 5:]
    assert differs(wanted, found) < 1e-6


def test_the_model_reads_the_prompt_and_the_sequence():
    policy, _ = prompted()
    widths = []
    policy.model.model.layers[0].register_forward_pre_hook(lambda m, args: widths.append(args[0].shape[1]))
    policy.model(input_ids=IDS)
    assert widths == [5 + IDS.shape[1]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_left_and_right_padding_and_what_stands_there_change_nothing(architecture):
    policy, _ = prompted(architecture)
    width, pad = IDS.shape[1], 4
    mask = torch.cat([torch.ones(1, width), torch.zeros(1, pad)], 1).long()
    found = []
    with torch.no_grad():
        found.append(policy.model(input_ids=IDS).logits)
        for fill in (0, 7):
            filled = torch.full((1, pad), fill)
            right = policy.model(input_ids=torch.cat([IDS, filled], 1), attention_mask=mask).logits[:, :width]
            left = policy.model(input_ids=torch.cat([filled, IDS], 1), attention_mask=mask.flip(1)).logits[:, pad:]
            found += [right, left]
    assert max(differs(found[0], each) for each in found) < 2e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_step_by_step_equals_a_whole_pass(architecture):
    policy, _ = prompted(architecture)
    ids = torch.stack([IDS[0], IDS[0].flip(0)])
    with evaluating(policy):
        whole = policy.model(input_ids=ids, use_cache=False).logits
        forward = Forward(policy)
        found = [forward(ids[:, :4], last=4), *(forward(ids[:, n : n + 1]) for n in range(4, 9))]
        forward.keep(torch.tensor([1]))
        found = torch.cat([torch.cat(found, 1)[1:], forward(ids[1:, 9:], last=2)], 1)
    assert forward.cached and differs(whole[1:], found) < 2e-6


def test_generation_with_the_cache_equals_recomputation():
    policy, _ = prompted()
    prompts = [IDS[0, :n].tolist() for n in (3, 7, 9)]
    answers = generate(policy, tiny_tokenizer(), prompts, Decoding(max_new_tokens=12))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        with evaluating(policy):
            for chosen in answer.ids:
                logits = policy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
                assert int(logits.argmax()) == chosen
                ids.append(chosen)
        inputs = torch.tensor([prompt])
        options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        with evaluating(policy):
            theirs = policy.model.generate(inputs, attention_mask=torch.ones_like(inputs), **options)
        assert theirs[0, len(prompt) :].tolist() == answer.ids


def test_transformers_generates_the_same_under_left_padding():
    policy, _ = prompted()
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    prompts = [IDS[0, :n] for n in (4, 9)]
    rows = torch.stack([torch.cat([torch.zeros(9 - len(p), dtype=torch.int64), p]) for p in prompts])
    with evaluating(policy):
        together = policy.model.generate(rows, attention_mask=(rows > 0).long(), **options)[:, 9:]
        alone = [
            policy.model.generate(p[None], attention_mask=torch.ones(1, len(p)).long(), **options) for p in prompts
        ]
    assert [each[0, len(p) :].tolist() for each, p in zip(alone, prompts, strict=True)] == together.tolist()


def test_the_context_is_shorter_by_the_prompt():
    policy, made = prompted("gpt2", n_positions=16)
    assert context_length(policy.model) == 11
    [answer] = generate(policy, tiny_tokenizer(), [IDS[0, :6].tolist()], Decoding(max_new_tokens=99))
    assert len(answer.ids) == 5
    with pytest.raises(BadInput, match="cannot be answered"):
        generate(policy, tiny_tokenizer(), [IDS[0].tolist()])
    made.detach()
    assert context_length(policy.model) == 16


def test_rows_may_be_as_long_as_what_the_prompt_leaves(tmp_path):
    tiny_folder(tmp_path / "model", "gpt2", n_positions=32)
    rows = [{"prompt": f"{n} is", "completion": " z"} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {"model": str(tmp_path / "model"), "data": {"train": str(tmp_path / "rows.jsonl")}, "train": {"steps": 1}}
    for adapter, limit in ((DePT(prompt_length=5, rank=1), 27), (LoRA(), 32)):
        data = read(Recipe.of(**keys, adapter={"method": adapter.name, **adapter.model_dump(exclude_unset=True)}))
        assert data.limit == limit


def test_the_prompt_learns_at_a_rate_of_its_own():
    for rate in (0.3, None):
        method = SMALL.model_copy(update={"lr_prompt": rate})
        parts = {"adapter": method, "optimizer": AdamW(lr=5e-4)}
        loop = tiny_loop(parts, table=TABLE, steps=1)
        before = {name: p.detach().clone() for name, p in loop.attached.trained().items()}
        loop.run()
        moved = {name: (p - before[name]).abs().max().item() for name, p in loop.attached.trained().items()}
        assert moved["prompt"] == pytest.approx(rate or 5e-4, rel=1e-3)
        assert moved["up"] == pytest.approx(5e-4, rel=1e-3)
        assert sum(len(group["params"]) for group in loop.optimizer.param_groups) == 3


def test_resuming_equals_not_stopping(tmp_path):
    parts = {"adapter": SMALL}
    straight, first, second = (tiny_loop(parts, table=TABLE, steps=6) for _ in range(3))
    straight.run()
    for hook in first.hooks:
        hook.on_start(first)
    first.advance(3)
    write_folder(tmp_path / "c", *pack(first))
    unpack(second, tmp_path / "c")
    second.run()
    assert not differing_bits(straight.attached.state(), second.attached.state())


@pytest.mark.parametrize("tied", [False, True])
def test_quantized_and_tied_models_come_back(tied):
    model = tiny(tie_word_embeddings=tied)
    policy = tiny_policy(model)
    NF4().apply(model)
    before, base = bits(model), logits_of(policy, TABLE)
    made = attach(SMALL, policy)
    disturb(made)
    assert not any(np.allclose(a, b, atol=1e-4) for a, b in zip(base, logits_of(policy, TABLE), strict=True))
    assert set(made.plain_weights()) == set(before)
    made.detach()
    assert not differing_bits(before, bits(model)) and not hasattr(model, "positions_before")


def test_what_is_refused():
    with pytest.raises(BadInput, match="cannot be merged"):
        attach(SMALL, tiny_policy()).merge()
    with pytest.raises(BadInput, match="leaves nothing") as caught:
        DePT(reference_length=41).attach(tiny())
    assert "at least 49" in str(caught.value)
    assert DePT(reference_length=49).rank_of(32) == 1
    with pytest.raises(BadInput, match="'dept' would mix packed records"):
        Recipe.of(
            model="nano", data={"train": "nano:arithmetic/train", "packing": "on"}, adapter={"method": "dept"},
            optimizer={"method": "adamw"}, train={"steps": 1},
        )  # fmt: skip
