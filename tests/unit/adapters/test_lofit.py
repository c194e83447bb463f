"""LoFiT: the selection, the vectors, the fold, the resume."""

import pytest
import torch

from tunewright.adapters import LoFiT
from tunewright.errors import BadInput
from tunewright.models.quantize.nf4 import NF4
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, bits, differing_bits, differs, disturb, logits_of, tiny_loop, tiny_policy
from tunewright.testing.tables import random_table
from tunewright.train.checkpoint import pack, unpack, write_folder

TABLE = random_table()
HEADS, SIZE = 4, 8
ALL = LoFiT(top_fraction=1.0)


def apart(one, other):
    return max(differs(a, b) for a, b in zip(one, other, strict=True))


def planted(layer=1, head=2):
    """A model in which the outputs of one head alone are read."""
    model = tiny()
    with torch.no_grad():
        for number, block in enumerate(model.model.layers):
            keep = torch.zeros(HEADS, SIZE)
            if number == layer:
                keep[head] = 1.0
            block.self_attn.o_proj.weight.mul_(keep.flatten())
    return model


@pytest.mark.parametrize(("fraction", "kept"), [(0.03, 1), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_how_many_numbers_train(fraction, kept):
    made = attach(LoFiT(top_fraction=fraction), tiny_policy())
    assert sum(p.numel() for p in made.trained().values()) == kept * SIZE
    assert made.heads.shape == (kept, 2) and len({tuple(pair) for pair in made.heads.tolist()}) == kept


@pytest.mark.parametrize("component", ["offset", "scale"])
def test_zeros_are_the_model_and_the_start_is_near(component):
    policy = tiny_policy()
    before = logits_of(policy, TABLE)
    method = LoFiT(top_fraction=1.0, component=component)
    made = attach(method, policy)
    values = torch.cat(list(made.trained().values()))
    assert values.std().item() == pytest.approx(1e-3, rel=0.3) and not method.neutral
    assert apart(before, logits_of(policy, TABLE)) > 0
    with torch.no_grad():
        for vector in made.trained().values():
            vector.zero_()
    assert apart(before, logits_of(policy, TABLE)) == 0
    assert LoFiT(init_std=0).neutral


@pytest.mark.parametrize("component", ["offset", "scale"])
def test_the_formula_at_a_head(component):
    model = tiny()
    made = attach(LoFiT(top_fraction=0.25, component=component), tiny_policy(model))
    disturb(made)
    for layer, block in enumerate(model.model.layers):
        z = torch.randn(3, HEADS, SIZE)
        wanted = z.clone()
        for row, (place, head) in enumerate(made.heads.tolist()):
            if place == layer:
                vector = made.vectors[row]
                wanted[:, head] = (1 + vector) * z[:, head] if component == "scale" else z[:, head] + vector
        found = block.self_attn.o_proj(z.flatten(1))
        assert torch.allclose(found, wanted.flatten(1) @ block.self_attn.o_proj.weight.T, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "gemma2", "gpt2", "gpt_neox", "phi", "opt"])
@pytest.mark.parametrize("component", ["offset", "scale"])
def test_merging_is_exact(architecture, component):
    policy = tiny_policy(tiny(architecture))
    made = attach(LoFiT(top_fraction=0.5, component=component), policy)
    disturb(made)
    before, tuned = bits(policy.model), logits_of(policy, TABLE)
    made.merge()
    assert apart(tuned, logits_of(policy, TABLE)) < 1e-5
    made.unmerge()
    assert not differing_bits(before, bits(policy.model))


def test_with_all_heads_the_biases_are_the_range_of_the_projection():
    model = tiny()
    made = attach(ALL, tiny_policy(model))
    columns = []
    for row in range(HEADS * SIZE):
        with torch.no_grad():
            for number, vector in enumerate(made.vectors):
                vector.zero_()
                if number == row // SIZE:
                    vector[row % SIZE] = 1.0
        made.merge()
        columns.append(model.model.layers[0].self_attn.o_proj.bias.detach().clone())
        made.unmerge()
    assert torch.equal(torch.stack(columns, 1), model.model.layers[0].self_attn.o_proj.weight.detach())
    assert model.model.layers[0].self_attn.o_proj.bias is None


@pytest.mark.parametrize("place", [(1, 2), (0, 3)])
def test_the_head_that_is_read_is_found(place):
    loop = tiny_loop({"adapter": LoFiT(l1_select=0.0)}, model=planted(*place), table=TABLE, steps=6)
    loop.advance(1)
    assert loop.attached.heads.tolist() == [list(place)]


def test_the_penalty_draws_scales_to_zero():
    found = {}
    for l1 in (0.0, 100.0):
        loop = tiny_loop({"adapter": LoFiT(l1_select=l1, lr_select=1e-4)}, table=TABLE, steps=8)
        noted = []
        loop.attached.take = lambda chosen, noted=noted, a=loop.attached: noted.append(a.probe.detach().abs().sum())
        loop.advance(1)
        found[l1] = noted[0].item()
    assert found[100.0] < 0.5 * found[0.0]


def test_the_selection_leaves_vectors_and_model_alone_and_is_counted():
    chosen, drawn = (
        tiny_loop({"adapter": LoFiT(heads=heads)}, table=TABLE, steps=4) for heads in ("learned", "random")
    )
    before = bits(chosen.policy.model)
    chosen.attached.hook()
    [selecting] = chosen.hooks
    selecting.on_step(chosen)
    assert not differing_bits(before, bits(chosen.policy.model))
    assert all(p.grad is None for p in chosen.policy.parameters()) and chosen.attached.probe is None
    taken = chosen.state.tokens
    chosen.advance(4), drawn.advance(4)
    assert not drawn.hooks and taken == drawn.state.tokens
    assert chosen.state.tokens == 2 * taken


@pytest.mark.parametrize("stopped", [0, 3])
def test_resuming_equals_not_stopping(stopped, tmp_path):
    parts = {"adapter": LoFiT(top_fraction=0.25)}
    straight, first, second = (tiny_loop(parts, table=TABLE, steps=6) for _ in range(3))
    straight.run()
    first.advance(stopped)
    write_folder(tmp_path / "c", *pack(first))
    with torch.no_grad():
        second.attached.take(torch.tensor([0, 1]))
    unpack(second, tmp_path / "c")
    second.run()
    assert not differing_bits(straight.attached.state(), second.attached.state())
    assert straight.state.tokens == second.state.tokens


def test_a_reference_is_the_base_while_heads_are_selected():
    """Objectives that compare with the start must see it also in the selection."""
    policy = tiny_policy()
    base = logits_of(policy, TABLE)
    made = attach(LoFiT(), policy)
    made.probe = torch.ones(2, HEADS, SIZE)
    with policy.reference():
        assert apart(base, logits_of(policy, TABLE)) == 0


@pytest.mark.parametrize("tied", [False, True])
def test_the_merged_checkpoint_loads_elsewhere(tied, tmp_path):
    from transformers import AutoModelForCausalLM

    policy = tiny_policy(tiny(tie_word_embeddings=tied))
    made = attach(LoFiT(), policy)
    disturb(made)
    tuned = logits_of(policy, TABLE)
    made.merge()
    policy.model.save_pretrained(tmp_path, state_dict=made.plain_weights())
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.attention_bias
    assert apart(tuned, logits_of(tiny_policy(again), TABLE)) < 1e-5


def test_what_does_not_fit_is_refused():
    policy = tiny_policy(tiny("qwen2"))
    made = attach(LoFiT(), policy)
    made.merge()
    with pytest.raises(BadInput, match=r"no place for the update's '.*o_proj.bias'"):
        made.plain_weights()
    with pytest.raises(BadInput, match="does not read the outputs of 5 heads"):
        model = tiny()
        model.config.num_attention_heads = 5
        LoFiT().attach(model)
    quantized = tiny_policy()
    NF4().apply(quantized.model)
    with pytest.raises(BadInput, match="quantized"):
        attach(LoFiT(), quantized).merge()
    other = attach(LoFiT(), tiny_policy())
    with pytest.raises(BadInput, match="which heads"):
        other.load_state({name: value for name, value in other.state().items() if name != "heads"})
