"""Quantized side tuning: a frozen model without a graph, the side network's form, caches, memory."""

import copy

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from tunewright import catalog
from tunewright.adapters import QST
from tunewright.errors import BadInput
from tunewright.models.generate import Decoding, Forward, evaluating, generate
from tunewright.testing.models import tiny, tiny_tokenizer
from tunewright.testing.runs import (
    attach,
    bits,
    differing_bits,
    differs,
    disturb,
    gradient,
    layouts,
    logits_of,
    tiny_loop,
    tiny_policy,
    usual_parts,
)
from tunewright.testing.tables import random_table

TABLE = random_table()
METHOD = QST(reduction=4, gate="sigmoid")
ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma2", "gpt2", "gpt_neox", "phi", "opt", "granite", "cohere")


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def thin(architecture):
    # A quarter of gpt_neox's heads is turned by positions: its heads must stay wide enough.
    return QST(reduction=2 if architecture == "gpt_neox" else 4, gate="sigmoid")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_raw_gate_of_one_is_the_base_exactly_and_detaching_leaves_nothing(architecture):
    policy = tiny_policy(tiny(architecture))
    base, before = logits_of(policy, TABLE), bits(policy.model)
    made = attach(QST(reduction=thin(architecture).reduction), policy)
    assert equal(base, logits_of(policy, TABLE))
    disturb(made)
    assert not equal(base, logits_of(policy, TABLE))
    with made.disabled():
        assert equal(base, logits_of(policy, TABLE))
    made.detach()
    assert equal(base, logits_of(policy, TABLE))
    assert not differing_bits(before, bits(policy.model))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("quantized", [False, True])
def test_nothing_of_the_model_carries_a_graph(architecture, quantized):
    policy = tiny_policy(tiny(architecture))
    if quantized:
        catalog.find("quantizer", "nf4")().apply(policy.model)
    own = dict(policy.model.named_modules())
    made = attach(thin(architecture), policy)
    outputs = {}
    for name, module in own.items():
        if name and "lm_head" not in name and module is not made.stack and module is not policy.model.base_model:
            module.register_forward_hook(lambda m, given, out, name=name: outputs.update({name: out}))
    batch = layouts(TABLE)["1 x all"][0]
    loss = usual_parts()["objective"].loss(policy, batch)
    loss.total.backward()
    tensors = {n: one for n, out in outputs.items() for one in (out if isinstance(out, tuple) else [out])}
    assert len(tensors) > 10
    assert not [n for n, one in tensors.items() if isinstance(one, torch.Tensor) and one.requires_grad]
    ours = {id(p) for p in made.trained().values()}
    assert all((p.grad is not None) == (id(p) in ours) for p in policy.parameters())


def test_the_count_of_trained_numbers_is_the_formula():
    config = LlamaConfig(
        vocab_size=11, hidden_size=128, intermediate_size=1066, num_hidden_layers=6, num_attention_heads=4
    )
    made = attach(QST(reduction=4, down_rank=16), tiny_policy(LlamaForCausalLM(config)))
    d, f, n, r, m = 128, 1066, 6, 4, 16
    s = d // r
    count = (n + 1) * (d * m + m * s + 2 * s) + n * (s + 4 * s**2 + 3 * s * (f // r) + 2 * s) + s + (s * d + d) + d
    assert sum(p.numel() for p in made.trained().values()) == count == 201_120


def test_the_output_against_the_formula():
    policy = tiny_policy()
    model = policy.model
    made = attach(METHOD, policy)
    disturb(made)
    ids = torch.tensor([[5, 9, 2, 40, 7, 3]])
    with torch.no_grad():
        found = model.model(input_ids=ids, use_cache=False).last_hidden_state
        with made.disabled():
            out = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        # transformers gives the last state behind the norm; the last block's is what the norm was given.
        seen = []
        handle = model.model.norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        with made.disabled():
            model.model(input_ids=ids, use_cache=False)
        handle.remove()
        states = [*out.hidden_states[:-1], seen[0]]
        side = made.side
        positions = torch.arange(6)[None]
        turns = side.body.rotary_emb(states[0][..., :8], position_ids=positions)
        mask = torch.full((6, 6), float("-inf")).triu(1)[None, None]
        g = side.first(states[0])
        for rung, state in zip(side.rungs, states[1:], strict=True):
            z = torch.sigmoid(rung.mix)
            g = rung.block(
                (1 - z) * rung.lower(state) + z * g,
                attention_mask=mask,
                position_embeddings=turns,
                position_ids=positions,
            )
        u = side.body.norm(g) @ side.up.weight.T + side.up.bias
        a = torch.sigmoid(1.0 + side.gate)
        wanted = (1 - a) * u + a * out.last_hidden_state
    assert differs(wanted, found) < 1e-5


def test_the_first_step_of_a_raw_gate_moves_the_gate_alone():
    loop = tiny_loop({"adapter": QST(reduction=4)}, table=TABLE, steps=2)
    before = {name: value.clone() for name, value in loop.attached.state().items()}
    loop.advance(1)
    after = loop.attached.state()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["gate"]
    loop.advance(1)
    assert all(not torch.equal(before[name], value) for name, value in loop.attached.state().items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_caches_equal_recomputation(architecture):
    policy = tiny_policy(tiny(architecture))
    disturb(attach(thin(architecture), policy))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 97, (4, 14), generator=generator)
    kept = torch.tensor([2, 0])
    with evaluating(policy):
        forward = Forward(policy)
        found = [forward(ids[:, :5])[:, -1]]
        found += [forward(ids[:, at : at + 1])[:, -1] for at in range(5, 8)]
        forward.keep(kept)
        found += [forward(ids[kept, at : at + 1])[:, -1] for at in range(8, 14)]
        whole = policy.model(input_ids=ids, use_cache=False).logits
    wanted = [whole[:, at] for at in range(4, 8)] + [whole[kept, at] for at in range(8, 14)]
    assert max(differs(a, b) for a, b in zip(wanted, found, strict=True)) < 1e-5


def test_answers_are_those_of_recomputation():
    policy = tiny_policy()
    disturb(attach(METHOD, policy))
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [4]]
    answers = generate(policy, tiny_tokenizer(), prompts, Decoding(max_new_tokens=8))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        for token in answer.ids:
            with torch.no_grad():
                logits = policy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            assert int(logits.argmax()) == token
            ids.append(token)


def test_caches_that_transformers_makes_serve_too():
    policy = tiny_policy()
    disturb(attach(METHOD, policy))
    ids = torch.tensor([[5, 9, 2, 40, 7, 3]])
    with torch.no_grad():
        whole = policy.model(input_ids=ids, use_cache=False).logits[:, -1]
        for cache in (None, DynamicCache()):
            begun = policy.model(input_ids=ids[:, :4], past_key_values=cache, use_cache=True)
            found = policy.model(input_ids=ids[:, 4:], past_key_values=begun.past_key_values, use_cache=True).logits
            assert differs(whole, found[:, -1]) < 1e-5
        other = tiny_policy()
        foreign = other.model(input_ids=ids, use_cache=True).past_key_values
        with pytest.raises(BadInput, match="without the side network"):
            policy.model(input_ids=ids, past_key_values=copy.copy(foreign), use_cache=True)


def kept_bytes(method):
    """Bytes that one update keeps for its backward pass, without parameters and the model's hidden states."""
    policy = tiny_policy(tiny(hidden_size=64, intermediate_size=128))
    made = attach(method, policy)
    batch = layouts(TABLE)["1 x all"][0]
    seen, states = {}, set()
    usual = made.side.forward

    def watched(given, last, **others):
        states.update(one.untyped_storage().data_ptr() for one in (*given, last))
        return usual(given, last, **others)

    made.side.forward = watched
    ours = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    keep = lambda t: seen.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        hidden = policy.hidden(batch)
    wide = hidden.numel() * 4
    return sum(n for at, n in seen.items() if at not in ours | states), wide


def test_what_is_kept_scales_with_the_side_width():
    (half, wide), (quarter, _), (eighth, _) = (kept_bytes(QST(reduction=r, down_kind="linear")) for r in (2, 4, 8))
    assert 0.4 < (quarter - eighth) / (half - quarter) < 0.6
    assert eighth - (quarter - eighth) < 4 * wide


def test_far_fewer_bytes_are_kept_than_under_lora():
    def kept(method):
        policy = tiny_policy(tiny(hidden_size=64, intermediate_size=128, num_hidden_layers=4))
        attach(method, policy)
        own = {p.untyped_storage().data_ptr() for p in policy.parameters()}
        seen = {}
        keep = lambda t: seen.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            policy.hidden(layouts(TABLE)["1 x all"][0])
        return sum(n for at, n in seen.items() if at not in own)

    assert kept(QST(reduction=8)) < 0.5 * kept(catalog.find("adapter", "lora")())


@pytest.mark.parametrize("kind", ["average", "max"])
def test_pooling_has_no_weights(kind):
    policy = tiny_policy()
    made = attach(QST(reduction=4, down_kind=kind), policy)
    assert not [name for name in made.trained() if "lower" in name or "first" in name]
    disturb(made)
    vector, _ = gradient(policy, made, usual_parts()["objective"], layouts(TABLE)["1 x all"])
    assert vector.norm() > 0


def test_over_a_quantized_base_in_short_format():
    policy = tiny_policy(tiny(dtype=torch.bfloat16))
    policy.autocast = None
    catalog.find("quantizer", "nf4")().apply(policy.model)
    loop = tiny_loop({"adapter": METHOD}, model=policy.model, table=TABLE, steps=4)
    loop.policy.autocast = None
    loop.run()
    answers = generate(loop.policy, tiny_tokenizer(), [[5, 6, 7], [8, 9]], Decoding(max_new_tokens=4))
    assert all(len(answer.ids) for answer in answers)


def test_merging_is_refused_with_the_reason():
    with pytest.raises(BadInput, match="network of its own"):
        attach(METHOD, tiny_policy()).merge()


@pytest.mark.parametrize("reduction", [64, 6])
def test_a_width_that_does_not_come_out_is_refused(reduction):
    policy = tiny_policy()
    before = bits(policy.model)
    with pytest.raises(BadInput, match="even width"):
        attach(QST(reduction=reduction), policy)
    assert not differing_bits(before, bits(policy.model))
