"""Prefix and prompt tuning: what is neutral, what the model sees, padding, the cache, PEFT's format."""

import pytest
import torch

from tunewright.adapters import PrefixTuning, PromptTuning
from tunewright.adapters._peft import save_prompt
from tunewright.data.batches import collate
from tunewright.errors import BadInput
from tunewright.models.context.longlora import LongLoRA
from tunewright.models.generate import Decoding, Forward, context_length, evaluating, generate
from tunewright.models.quantize.nf4 import NF4
from tunewright.recipe.composition import clashes
from tunewright.testing.models import tiny, tiny_tokenizer
from tunewright.testing.runs import (
    attach,
    bits,
    differing_bits,
    differs,
    disturb,
    layouts,
    logits_of,
    tiny_loop,
    tiny_policy,
)
from tunewright.testing.tables import random_table
from tunewright.train.checkpoint import pack, unpack, write_folder

TABLE = random_table()
PREFIX, PROMPT = PrefixTuning(num_virtual_tokens=5), PromptTuning(num_virtual_tokens=5)
ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma2", "gpt2", "gpt_neox", "phi", "opt", "cohere", "granite")
UNWINDOWED = {name: {"sliding_window": 128} for name in ("mistral", "gemma2")}
IDS = torch.arange(3, 14)[None]
EACH = pytest.mark.parametrize("architecture", ARCHITECTURES)
BOTH = pytest.mark.parametrize("method", [PREFIX, PROMPT], ids=lambda method: method.name)


def tuned(architecture="llama", method=PREFIX, **changes):
    policy = tiny_policy(tiny(architecture, **changes))
    made = attach(method, policy)
    disturb(made, size=0.3)
    return policy, made


def filled(model, made, zero=False):
    """A cache of the model's own that holds the prefix of one row."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(made.trains.keys, made.trains.values, strict=True)):
        cache.update(keys[None] * (not zero), values[None] * (not zero), layer)
    return cache


@EACH
def test_equals_a_cache_that_holds_the_prefix(architecture):
    policy, made = tuned(architecture, **UNWINDOWED.get(architecture, {}))
    with torch.no_grad():
        found = policy.model(input_ids=IDS).logits
        with made.disabled():
            places = torch.arange(5, 5 + IDS.shape[1])[None]
            wanted = policy.model(input_ids=IDS, past_key_values=filled(policy.model, made), position_ids=places).logits
    assert differs(wanted, found) < 2e-6


def test_masked_out_it_is_the_base():
    """Mask columns 0 and the position ids of the run without prefix: equal logits and no divergence."""
    policy, made = tuned()
    base = tiny()(IDS).logits
    mask = torch.cat([torch.zeros(1, 5), torch.ones(1, IDS.shape[1])], 1).long()
    places = torch.arange(IDS.shape[1])[None]
    with torch.no_grad(), made.disabled():
        cache = filled(policy.model, made)
        masked = policy.model(IDS, past_key_values=cache, attention_mask=mask, position_ids=places).logits
        off = policy.model(IDS).logits
    assert torch.equal(off, base) and differs(base, masked) < 1e-6
    log_p, log_q = base.log_softmax(-1), masked.log_softmax(-1)
    assert (log_p.exp() * (log_p - log_q)).sum(-1).abs().max() < 1e-6


def test_zero_keys_and_values_are_not_neutral():
    policy, made = tuned()
    with torch.no_grad():
        for each in made.trained().values():
            each.zero_()
        found = policy.model(input_ids=IDS).logits
        with made.disabled():
            base = policy.model(input_ids=IDS).logits
            moved = policy.model(input_ids=IDS, position_ids=torch.arange(5, 5 + IDS.shape[1])[None]).logits
    assert differs(base, moved) < 1e-5 < 1e-2 < differs(base, found)


def test_it_begins_as_what_the_model_computes_for_words():
    policy = tiny_policy()
    made = attach(PREFIX, policy, seed=4)
    torch.manual_seed(4)
    words = torch.randint(97, (1, 5))
    with torch.no_grad():
        found = policy.model(input_ids=IDS).logits
        with made.disabled():
            wanted = policy.model(input_ids=torch.cat([words, IDS], 1)).logits[:, 5:]
    assert differs(wanted, found) < 1e-6


def test_how_many_numbers_train_and_the_base_stays():
    assert sum(p.numel() for p in attach(PrefixTuning(), tiny_policy()).trained().values()) == 2 * 2 * 10 * 2 * 8
    assert sum(p.numel() for p in attach(PromptTuning(), tiny_policy()).trained().values()) == 20 * 32
    for method in (PREFIX, PROMPT):
        model = tiny()
        before = bits(model)
        loop = tiny_loop({"adapter": method}, model=model, table=TABLE, steps=4)
        loop.run()
        loop.attached.detach()
        assert not differing_bits(before, bits(model)) and not hasattr(model, "positions_before")


@EACH
@BOTH
def test_left_and_right_padding_and_what_stands_there_change_nothing(architecture, method):
    policy, _ = tuned(architecture, method)
    width, pad = IDS.shape[1], 4
    mask = torch.cat([torch.ones(1, width), torch.zeros(1, pad)], 1).long()
    found = []
    with torch.no_grad():
        found.append(policy.model(input_ids=IDS).logits)
        for fill in (0, 7):
            blank = torch.full((1, pad), fill)
            right = policy.model(input_ids=torch.cat([IDS, blank], 1), attention_mask=mask).logits[:, :width]
            left = policy.model(input_ids=torch.cat([blank, IDS], 1), attention_mask=mask.flip(1)).logits[:, pad:]
            found += [right, left]
    assert max(differs(found[0], each) for each in found) < 2e-6


@EACH
@BOTH
def test_step_by_step_equals_a_whole_pass(architecture, method):
    policy, _ = tuned(architecture, method)
    ids = torch.stack([IDS[0], IDS[0].flip(0)])
    with evaluating(policy):
        whole = policy.model(input_ids=ids, use_cache=False).logits
        forward = Forward(policy)
        found = [forward(ids[:, :4], last=4), *(forward(ids[:, n : n + 1]) for n in range(4, 9))]
        forward.keep(torch.tensor([1]))
        found = torch.cat([torch.cat(found, 1)[1:], forward(ids[1:, 9:], last=2)], 1)
    assert forward.cached and differs(whole[1:], found) < 2e-6


@BOTH
def test_both_generators_give_what_recomputation_gives(method):
    policy, _ = tuned(method=method)
    prompts = [IDS[0, :n].tolist() for n in (3, 7, 9)]
    answers = generate(policy, tiny_tokenizer(), prompts, Decoding(max_new_tokens=12))
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    rows = torch.tensor([[0] * (9 - len(prompt)) + prompt for prompt in prompts])
    with evaluating(policy):
        theirs = policy.model.generate(rows, attention_mask=(rows > 0).long(), **options)[:, 9:].tolist()
        for prompt, answer in zip(prompts, answers, strict=True):
            ids = list(prompt)
            for chosen in answer.ids:
                logits = policy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
                assert int(logits.argmax()) == chosen
                ids.append(chosen)
    assert [answer.ids for answer in answers] == theirs


def test_packed_records_each_see_the_prefix_and_nothing_else():
    policy, _ = tuned()
    alone = [policy.logprobs(batch) for batch in layouts(TABLE)["all x 1"]]
    packed = policy.logprobs(collate(TABLE, range(len(TABLE)), packed=True))
    assert differs(torch.cat(alone), packed) < 1e-5
    assert PrefixTuning().packs and not PromptTuning().packs


@BOTH
def test_the_context_is_shorter(method):
    policy, made = tuned("gpt2", method, n_positions=16)
    assert context_length(policy.model) == 11
    [answer] = generate(policy, tiny_tokenizer(), [IDS[0, :6].tolist()], Decoding(max_new_tokens=99))
    assert len(answer.ids) == 5
    made.detach()
    assert context_length(policy.model) == 16


@BOTH
def test_resuming_equals_not_stopping(method, tmp_path):
    straight, first, second = (tiny_loop({"adapter": method}, table=TABLE, steps=6) for _ in range(3))
    straight.run()
    first.advance(3)
    write_folder(tmp_path / "c", *pack(first))
    unpack(second, tmp_path / "c")
    second.run()
    assert not differing_bits(straight.attached.state(), second.attached.state())


@BOTH
def test_quantized_models_come_back(method):
    model = tiny()
    policy = tiny_policy(model)
    NF4().apply(model)
    before = bits(model)
    made = attach(method, policy)
    disturb(made)
    assert set(made.plain_weights()) == set(before)
    made.detach()
    assert not differing_bits(before, bits(model))


@EACH
@BOTH
def test_peft_loads_it_with_equal_logits(architecture, method, tmp_path):
    peft = pytest.importorskip("peft")
    changes = UNWINDOWED.get(architecture, {})
    policy, made = tuned(architecture, method, **changes)
    save_prompt(tmp_path, made.as_prompt(made.state()), "base")
    theirs = peft.PeftModel.from_pretrained(tiny(architecture, **changes), str(tmp_path))
    with torch.no_grad():
        wanted = [theirs(input_ids=collate(TABLE, [n]).ids).logits[0] for n in range(len(TABLE))]
    for our, their in zip(logits_of(policy, TABLE), wanted, strict=True):
        assert differs(our, their[-len(our) :]) < 1e-5


def test_what_is_refused():
    for method in (PREFIX, PROMPT):
        with pytest.raises(BadInput, match=f"{method.name} cannot be merged"):
            attach(method, tiny_policy()).merge()
    model = tiny()
    model.set_attn_implementation("flex_attention")
    with pytest.raises(BadInput, match="takes no prefix"):
        PREFIX.attach(model)
    [clash] = clashes({("adapter",): PREFIX, ("model", "context"): LongLoRA(length=256)})
    assert "longlora" in clash.reason
