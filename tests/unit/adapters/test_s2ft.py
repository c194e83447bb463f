"""S2FT: the choice, the co-permutation and its undoing, merging, the one-hot pairs."""

import pytest
import torch

from tunewright import catalog
from tunewright.adapters import S2FT
from tunewright.adapters._peft import save_peft
from tunewright.errors import BadInput
from tunewright.recipe.composition import clashes
from tunewright.testing.models import tiny
from tunewright.testing.optimizers import assert_same_place
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
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Settings

TABLE = random_table()
EVERYWHERE = {"ratio_down": 0.2, "ratio_up": 0.15, "ratio_o": 0.5, "ratio_v": 0.5}
PERMUTED = ("llama", "qwen2", "mistral", "gemma2", "opt")


def apart(one, other):
    return max(differs(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("architecture", PERMUTED)
def test_the_function_stays_the_same_in_the_new_order(architecture):
    policy = tiny_policy(tiny(architecture))
    base, before = logits_of(policy, TABLE), bits(policy.model)
    made = attach(S2FT(**EVERYWHERE), policy)
    moved = {n for n in before if n in bits(policy.model) and not torch.equal(before[n], bits(policy.model)[n])}
    assert moved, "nothing was put in another order"
    assert apart(base, logits_of(policy, TABLE)) < 1e-5
    with made.disabled():
        assert apart(base, logits_of(policy, TABLE)) == 0
    made.detach()
    assert not differing_bits(before, bits(policy.model))


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "phi"])
def test_channels_are_permuted_where_q_k_and_v_are_one_matrix_or_heads_are_not(architecture):
    policy = tiny_policy(tiny(architecture))
    base = logits_of(policy, TABLE)
    attach(S2FT(ratio_down=0.2, ratio_up=0.2), policy)
    assert apart(base, logits_of(policy, TABLE)) < 1e-5


def test_every_layer_of_a_structure_has_the_same_order():
    model = tiny("qwen2")
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    made = attach(S2FT(**EVERYWHERE), tiny_policy(model))
    for group, order in made.orders:
        for role, name in group.layers.items():
            layer = model.get_submodule(name)
            base = getattr(layer, "base", layer)
            index = (order[:, None] * group.widths[role] + torch.arange(group.widths[role])).flatten()
            wanted = plain[f"{name}.weight"]
            assert torch.equal(base.weight, wanted[:, index] if role in ("down", "o") else wanted[index])
            if role in ("q", "k", "v"):
                assert torch.equal(base.bias, plain[f"{name}.bias"][index])


def test_int_of_the_ratio_of_all_pairs_train_and_nothing_of_the_base():
    policy = tiny_policy()
    made = attach(S2FT(**EVERYWHERE), policy)
    found = {}
    for name, layer in made.layers.items():
        role = name.rsplit(".", 1)[1].removesuffix("_proj")
        found[role] = found.get(role, 0) + len(layer.channels)
    # 2 layers of 48 channels and 2 groups; a group is 8 rows of v and 16 columns of o.
    assert found == {"down": int(0.2 * 96), "up": int(0.15 * 96), "o": 2 * 16, "v": 2 * 8}
    assert sum(p.numel() for p in made.trained().values()) == 32 * sum(found.values())
    assert {id(p) for p in policy.model.parameters() if p.requires_grad} == {id(p) for p in made.trained().values()}


def test_single_heads_of_o_are_chosen_without_permutation():
    made = attach(S2FT(ratio_down=0, ratio_o=3 / 8, permute=False), tiny_policy())
    assert sum(len(layer.channels) for layer in made.layers.values()) == 3 * 8


def test_chosen_units_stand_first_as_up_both_down():
    made = attach(S2FT(ratio_down=0.3, ratio_up=0.3), tiny_policy())
    for block in (0, 1):
        up, down = (made.layers[f"model.layers.{block}.mlp.{role}_proj"] for role in ("up", "down"))
        both = set(up.channels.tolist()) & set(down.channels.tolist())
        assert up.at == slice(0, len(up.channels))
        assert down.at == slice(len(up.channels) - len(both), len(up.channels) - len(both) + len(down.channels))
        assert both and len(both) < min(len(up.channels), len(down.channels))


@pytest.mark.parametrize("permute", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_merging_changes_the_chosen_rows_and_columns_alone(architecture, permute):
    method = S2FT(ratio_down=0.1, ratio_up=0.1, permute=permute)
    policy = tiny_policy(tiny(architecture))
    before = bits(policy.model)
    made = attach(method, policy)
    disturb(made)
    tuned = logits_of(policy, TABLE)
    made.merge()
    assert apart(tuned, logits_of(policy, TABLE)) < 1e-5
    after = made.plain_weights()
    assert set(after) == set(before)
    for name, value in before.items():
        layer = made.layers.get(name.removesuffix(".weight"))
        change = after[name] - value
        if layer is None or not name.endswith(".weight"):
            assert torch.equal(after[name], value), name
            continue
        change = change.T if layer.transposed else change
        lines = change if layer.by_rows else change.T
        chosen = torch.zeros(len(lines), dtype=torch.bool)
        chosen[layer.channels] = True
        assert (lines[~chosen] == 0).all()
        assert torch.allclose(lines[layer.channels], layer.delta if layer.by_rows else layer.delta.T, atol=1e-6)
    made.unmerge()
    assert apart(tuned, logits_of(policy, TABLE)) == 0
    made.detach()
    assert not differing_bits(before, bits(policy.model))


def test_gathered_and_permuted_train_alike():
    found = []
    for permute in (True, False):
        loop = tiny_loop({"adapter": S2FT(ratio_down=0.1, ratio_up=0.1, permute=permute)}, steps=6)
        loop.run()
        export = loop.attached.as_lora()
        found.append({name: pair.up @ pair.down for name, pair in export.pairs.items()})
    assert set(found[0]) == set(found[1])
    assert all(differs(found[0][name], found[1][name]) < 1e-3 for name in found[0])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_peft_loads_the_one_hot_pairs_to_equal_logits(architecture, tmp_path):
    peft = pytest.importorskip("peft")
    options = EVERYWHERE if architecture == "llama" else {"ratio_down": 0.2, "ratio_up": 0.1}
    policy = tiny_policy(tiny(architecture))
    made = attach(S2FT(**options), policy)
    disturb(made)
    tuned = logits_of(policy, TABLE)
    export = made.as_lora()
    for name, layer in made.layers.items():
        hot = export.pairs[name].up.T if layer.by_rows else export.pairs[name].down
        assert (hot.sum(1) == 1).all() and (hot.count_nonzero(1) == 1).all()
        assert export.pairs[name].alpha == hot.shape[0]
    save_peft(tmp_path, export, "tiny")
    theirs = peft.PeftModel.from_pretrained(tiny(architecture), str(tmp_path))
    assert apart(tuned, logits_of(tiny_policy(theirs.merge_and_unload()), TABLE)) < 1e-5


def test_adapters_of_other_channels_add_without_touching_each_other():
    model = tiny()
    before = bits(model)
    changes = []
    for smallest in (True, False):
        made = attach(S2FT(ratio_down=0.2, strategy="weight", smallest=smallest), tiny_policy(model))
        disturb(made)
        made.merge()
        changes.append({name: value - before[name] for name, value in made.plain_weights().items()})
        made.detach()
    assert all((changes[0][name] * changes[1][name] == 0).all() for name in before)


def test_the_largest_and_smallest_norms_are_chosen_in_any_precision():
    for smallest in (False, True):
        method = S2FT(ratio_down=0.25, strategy="weight", smallest=smallest)
        made, short = (attach(method, tiny_policy(tiny(dtype=d))) for d in (torch.float32, torch.bfloat16))
        norms = torch.stack(
            [
                tiny().get_submodule(f"model.layers.{n}.mlp.down_proj").weight.bfloat16().float().norm(dim=0)
                for n in (0, 1)
            ]
        )
        chosen = torch.zeros_like(norms, dtype=torch.bool)
        for n in (0, 1):
            name = f"model.layers.{n}.mlp.down_proj"
            chosen[n, made.layers[name].channels] = True
            assert torch.equal(made.layers[name].channels, short.layers[name].channels)
        assert int(chosen.sum()) == 24
        inside, outside = norms[chosen], norms[~chosen]
        assert (inside.max() <= outside.min()) if smallest else (inside.min() >= outside.max())


def test_only_the_slice_is_kept_for_the_backward_pass():
    made = attach(S2FT(ratio_down=0.1), tiny_policy())
    layer = next(iter(made.layers.values()))
    x, kept = torch.randn(7, 48), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    assert max(t.untyped_storage().nbytes() for t in kept if t.shape[0] == 7) == 7 * len(layer.channels) * 4


def test_a_quantized_base_is_trained_by_index_and_refused_otherwise():
    nf4 = catalog.find("quantizer", "nf4")()
    of = lambda method: list(clashes({("adapter",): method, ("model", "quantize"): nf4}))
    [clash] = of(S2FT())
    assert "permutable" in clash.reason
    assert not of(S2FT(permute=False))
    policy = tiny_policy()
    nf4.apply(policy.model)
    with pytest.raises(BadInput, match="another order"):
        attach(S2FT(), policy)
    base = logits_of(policy, TABLE)
    made = attach(S2FT(**{**EVERYWHERE, "permute": False}), policy)
    objective = usual_parts()["objective"]
    assert gradient(policy, made, objective, layouts(TABLE)["1 x all"])[0].norm() > 0
    disturb(made)
    assert apart(base, logits_of(policy, TABLE)) > 1e-4
    with made.disabled():
        assert apart(base, logits_of(policy, TABLE)) == 0
    with pytest.raises(BadInput, match="quantized"):
        made.merge()


def test_a_state_of_other_channels_is_refused():
    one = attach(S2FT(), tiny_policy())
    other = attach(S2FT(seed=3), tiny_policy())
    with pytest.raises(BadInput, match="other channels"):
        other.load_state(one.state())


def test_a_model_that_the_order_matters_to_is_refused_and_left_as_it_was():
    model = tiny()
    mlp = model.model.layers[0].mlp
    slopes = torch.linspace(0.1, 2.0, 48)
    mlp.act_fn = type("Sloped", (torch.nn.Module,), {"forward": lambda self, x: torch.tanh(x * slopes)})()
    before = bits(model)
    with pytest.raises(BadInput, match="another order"):
        attach(S2FT(ratio_down=0.3), tiny_policy(model))
    assert not differing_bits(before, bits(model))
    attach(S2FT(permute=False), tiny_policy(model))


@pytest.mark.parametrize(
    ("architecture", "options", "said"),
    [
        ("gpt2", {"ratio_v": 0.5}, "'v'"),
        ("gpt2", {"ratio_o": 0.5}, "same order"),
        ("llama", {"ratio_down": 0.001}, "choose no channel"),
    ],
)
def test_what_a_model_has_not_is_named(architecture, options, said):
    with pytest.raises(BadInput, match=said):
        attach(S2FT(**options), tiny_policy(tiny(architecture)))
    if "ratio_o" in options:
        attach(S2FT(**options, permute=False), tiny_policy(tiny(architecture)))


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        S2FT(ratio_down=0)


def measured(strategy, architecture="llama", **options):
    """(channels by layer, the norms of every unit [layers, units]) by a plain computation on the run's first step."""
    made = {"ratio_down": 0.25, "ratio_up": 0.25, "strategy": strategy, **options}
    loop = tiny_loop({"adapter": S2FT(**made)}, model=tiny(architecture), steps=4)
    loop.advance(1)
    wanted = {}
    model = tiny(architecture)
    policy = tiny_policy(model)
    objective, batches = usual_parts()["objective"], loop.batches(0)
    names = list(loop.attached.layers)
    squares = {}
    if strategy == "activation":
        model.requires_grad_(False)
        seen = lambda name, by_rows: (
            lambda module, args, out: squares.__setitem__(
                name, squares.get(name, 0) + (out if by_rows else args[0])[real].double().square().sum(0)
            )
        )
        for name in names:
            model.get_submodule(name).register_forward_hook(seen(name, loop.attached.layers[name].by_rows))
    for batch in batches:
        real = batch.sequence >= 0
        loss = objective.loss(policy, batch)
        if strategy == "gradient":
            loss.total.backward()
    for name in names:
        if strategy == "activation":
            wanted[name] = squares[name].sqrt()
        else:
            gradient = model.get_submodule(name).weight.grad
            gradient = gradient.T if loop.attached.layers[name].transposed else gradient
            wanted[name] = gradient.norm(dim=1 if loop.attached.layers[name].by_rows else 0)
    return loop, wanted


@pytest.mark.parametrize("permute", [True, False])
@pytest.mark.parametrize("smallest", [True, False])
@pytest.mark.parametrize("strategy", ["activation", "gradient"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_units_of_the_largest_or_smallest_norms_are_chosen_before_the_first_step(
    architecture, strategy, smallest, permute
):
    loop, wanted = measured(strategy, architecture, smallest=smallest, permute=permute)
    layers = loop.attached.layers
    for by_rows in (True, False):
        names = [name for name in layers if layers[name].by_rows == by_rows]
        norms = torch.cat([wanted[name] for name in names])
        chosen = torch.cat([torch.isin(torch.arange(len(wanted[name])), layers[name].channels) for name in names])
        assert int(chosen.sum()) == int(0.25 * len(norms))
        inside, outside = norms[chosen], norms[~chosen]
        slack = 1 + 1e-4
        if smallest:
            assert inside.max() <= outside.min() * slack
        else:
            assert inside.min() * slack >= outside.max()
    # The step was taken from the measured choice.
    assert all(layer.delta.abs().max() > 0 for layer in layers.values() if len(layer.channels))
    export = loop.attached.as_lora()
    assert set(export.pairs) == {name for name, layer in layers.items() if len(layer.channels)}


@pytest.mark.parametrize("strategy", ["activation", "gradient"])
def test_a_measured_choice_is_of_the_whole_model_and_loads_into_a_fresh_one(strategy):
    options = {"ratio_down": 0.05, "ratio_o": 0.5, "ratio_v": 0.5, "strategy": strategy}
    loop = tiny_loop({"adapter": S2FT(**options)}, steps=3)
    total = sum(p.numel() for p in loop.attached.trained().values())
    loop.run()
    assert sum(p.numel() for p in loop.attached.trained().values()) == total
    fresh = tiny_policy()
    made = attach(S2FT(**options), fresh)
    made.load_state(loop.attached.state())
    assert apart(logits_of(loop.policy, TABLE), logits_of(fresh, TABLE)) == 0
    with made.disabled():
        assert apart(logits_of(tiny_policy(), TABLE), logits_of(fresh, TABLE)) == 0
    made.merge()
    assert apart(logits_of(loop.policy, TABLE), logits_of(fresh, TABLE)) < 1e-5
    made.detach()
    assert not differing_bits(bits(tiny()), bits(fresh.model))


@pytest.mark.parametrize("strategy", ["activation", "gradient"])
def test_a_measured_choice_survives_a_checkpoint(strategy, tmp_path):
    make = lambda: tiny_loop({"adapter": S2FT(ratio_down=0.1, ratio_up=0.1, strategy=strategy)}, steps=4)
    through, stopped, resumed = make(), make(), make()
    through.advance(4)
    stopped.advance(2)
    write_folder(tmp_path / "step", *pack(stopped))
    unpack(resumed, tmp_path / "step")
    resumed.advance(2)
    assert_same_place(through, resumed)


def test_the_measured_choice_hardly_depends_on_the_layout():
    found = []
    for tokens in (24, 4096):
        settings = Settings(micro_batch_tokens=tokens)
        parts = {"adapter": S2FT(ratio_down=0.2, strategy="gradient", measured_steps=2)}
        loop = tiny_loop(parts, steps=3, settings=settings)
        loop.advance(1)
        found.append({name: layer.channels for name, layer in loop.attached.layers.items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_quantized_base_is_measured_too():
    nf4 = catalog.find("quantizer", "nf4")()
    loop = tiny_loop({"adapter": S2FT(ratio_down=0.1, strategy="gradient", permute=False), "quantizer": nf4})
    before = {name: layer.channels for name, layer in loop.attached.layers.items()}
    loop.advance(1)
    assert any(not torch.equal(before[name], layer.channels) for name, layer in loop.attached.layers.items())
