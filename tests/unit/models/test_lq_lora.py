"""LQ-LoRA: the decomposition, its offer, the levels."""

import itertools
import json

import numpy as np
import pytest
import torch

from tunewright.data.batches import collate
from tunewright.errors import BadInput
from tunewright.models.layers import linear_layers, shape_of
from tunewright.models.quantize import NF4, LQLoRA
from tunewright.models.quantize._approximation import factors
from tunewright.models.quantize._blockwise import nf4, normal_float
from tunewright.models.quantize._fisher import Importance, fishers
from tunewright.models.quantize._layer import QuantizedLinear
from tunewright.models.quantize.lq_lora import CHOICES, allocated
from tunewright.output import sha256
from tunewright.pipeline import run
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny, tiny_folder
from tunewright.testing.runs import attach, tiny_policy, usual_parts
from tunewright.testing.tables import random_table


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def decaying():
    u, _ = torch.linalg.qr(gaussian(64, 64))
    v, _ = torch.linalg.qr(gaussian(64, 64, seed=1))
    return u @ torch.diag(0.9 ** torch.arange(64.0)) @ v


def error(method, weight):
    stored = method.store(weight)
    pair = method.offer(weight, stored)
    return float((weight - stored.restored() - (pair[0] @ pair[1] if pair else 0)).norm())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("weight", [gaussian(64, 64), decaying()], ids=["gaussian", "decaying"])
def test_the_error_is_below_that_of_quantizing_alone(bits, weight):
    method = LQLoRA(bits=bits, rank=8)
    kept, _, errors = method.decomposed(weight)
    assert errors[0] == pytest.approx(float((weight - LQLoRA(bits=bits, iterations=0).store(weight).restored()).norm()))
    assert len(errors) > 1 and errors == sorted(errors, reverse=True)
    assert error(method, weight) <= errors[-1] * (1 + 1e-6) < errors[0]
    assert torch.equal(kept.restored(weight.shape), method.store(weight).restored())


def test_what_lies_on_the_grid_is_kept_and_offers_nothing():
    weight = gaussian(64, 64).sign()
    method = LQLoRA(bits=4, rank=8)
    kept, pair, errors = method.decomposed(weight)
    stored = method.store(weight)
    assert torch.equal(kept.restored(weight.shape), weight) and errors == [0.0] and pair is None
    assert torch.equal(stored.restored(), weight)
    assert method.offer(weight, stored) is None


def test_levels():
    assert normal_float(2).tolist() == pytest.approx([-1, 0, 0.3379, 1], abs=1e-4)
    assert torch.equal(normal_float(4), nf4())
    for bits in (2, 3, 4, 8):
        assert len(normal_float(bits)) == 2**bits and (normal_float(bits) == 0).sum() == 1


def test_bits_per_weight():
    weight = gaussian(1024, 1024)
    stored = LQLoRA(bits=3, iterations=0).store(weight)
    least = 4
    assert (stored.bytes - least) * 8 / weight.numel() == pytest.approx(3 + 8 / 64 + 16 / (64 * 256))


def test_an_adapter_begins_with_the_offered_pair():
    model, plain = tiny(), tiny()
    LQLoRA(bits=3, rank=4).apply(model)
    attached = attach(usual_parts()["adapter"], tiny_policy(model))
    layer = attached.layers["model.layers.0.mlp.up_proj"]
    assert isinstance(layer.base, QuantizedLinear)
    whole = layer.base.weight + layer.scale * layer.up @ layer.down
    original = plain.model.layers[0].mlp.up_proj.weight
    up, down = layer.base.offer
    assert torch.allclose(whole, layer.base.weight + up @ down, atol=1e-5)
    assert (whole - original).norm() < (LQLoRA(bits=3, iterations=0).store(original.data).restored() - original).norm()


def test_an_adapter_of_another_rank_is_refused():
    model = tiny()
    LQLoRA(rank=8).apply(model)
    with pytest.raises(BadInput, match="rank"):
        attach(usual_parts()["adapter"], tiny_policy(model))


def test_starts_closer_than_nf4():
    weight = gaussian(128, 128)
    assert error(LQLoRA(rank=8), weight) < (weight - NF4().store(weight).restored()).norm()


@pytest.mark.parametrize("seed", range(20))
def test_the_program_equals_brute_force(seed):
    generator = np.random.default_rng(seed)
    costs, sizes = generator.random((3, 4)), generator.random((3, 4)) + 0.5
    least, most = sizes.min(1).sum(), sizes.max(1).sum()
    budget = least + generator.random() * (most - least)
    total = lambda table, choice: sum(table[row, index] for row, index in enumerate(choice))
    fits = [c for c in itertools.product(range(4), repeat=3) if total(sizes, c) <= budget]
    found = allocated(costs, sizes, budget)
    assert total(sizes, found) <= budget * (1 + 1e-9)
    assert total(costs, found) == pytest.approx(min(total(costs, c) for c in fits))


def test_a_budget_below_every_choice_is_refused():
    with pytest.raises(BadInput, match="so small"):
        LQLoRA(rank=4, budget=2.0).apply(tiny())


@pytest.mark.parametrize("budget", [2.6, 3.2, 4.6])
def test_a_budget_is_kept_and_beats_the_same_bits_for_all(budget):
    plain, model = linear_layers(tiny()), tiny()
    # Layers that differ in size of their numbers want different bits.
    for place, layer in enumerate(linear_layers(model).values()):
        layer.weight.data *= 1.5**place
    weights = {name: layer.weight.data.clone() for name, layer in linear_layers(model).items()}
    count = sum(weight.numel() for weight in weights.values())
    method = LQLoRA(rank=4, budget=budget)
    method.apply(model)
    chosen, error = {}, 0.0
    for name, weight in weights.items():
        layer = model.get_submodule(name)
        chosen[name] = LQLoRA(rank=4, bits=layer.stored.bits, block=layer.stored.block)
        up, down = layer.offer
        error += float((weight - layer.stored.restored() - up @ down).square().sum())
    assert set(chosen) == set(plain)
    assert sum(one.bits_per_weight * weights[name].numel() for name, one in chosen.items()) <= budget * count
    assert len({(one.bits, one.block) for one in chosen.values()}) > 1
    alike = [LQLoRA(rank=4, bits=bits, block=block) for bits, block in CHOICES]
    fitting = [one for one in alike if one.bits_per_weight <= budget]
    assert error < min(sum(one.left(weight) for weight in weights.values()) for one in fitting)


@pytest.mark.parametrize("shape", [(40, 96), (96, 40), (32, 32)])
def test_factors_are_the_best_approximation(shape):
    matrix = gaussian(*shape)
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    for rank in (1, 8, 64):
        up, down = factors(matrix, rank)
        assert up.shape == (shape[0], min(rank, *shape))
        wanted = (u[:, :rank] * s[:rank]) @ v[:rank]
        assert (up.double() @ down.double() - wanted).norm() < 1e-6 * wanted.norm()
        assert torch.allclose(up.norm(dim=0), s[:rank].sqrt().float(), rtol=1e-5)
        assert torch.allclose(down.norm(dim=1), s[:rank].sqrt().float(), rtol=1e-5)


def test_factors_of_a_matrix_of_lower_rank_have_no_rounding_in_the_rest():
    matrix = gaussian(40, 3) @ gaussian(3, 60, seed=1)
    up, down = factors(matrix, 8)
    assert torch.isfinite(up).all() and torch.isfinite(down).all()
    assert torch.allclose(up @ down, matrix, atol=1e-4)
    up, down = factors(torch.zeros(8, 8), 2)
    assert not up.any() and not down.any()


def test_large_matrices_are_approximated_nearly_as_well():
    u, _ = torch.linalg.qr(gaussian(600, 40))
    v, _ = torch.linalg.qr(gaussian(700, 40, seed=1))
    matrix = u @ torch.diag(0.8 ** torch.arange(40.0)) @ v.T
    up, down = factors(matrix, 8)
    assert (matrix - up @ down).norm() < 1.001 * (0.8 ** torch.arange(8.0, 40.0)).norm()
    assert torch.equal(up, factors(matrix, 8)[0])


def fisher_like(*shape):
    return (
        gaussian(*shape, seed=5).square() * 4.0 ** gaussian(shape[0], 1, seed=6) * 4.0 ** gaussian(1, shape[1], seed=7)
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_with_constant_importance_the_weighted_and_the_plain_decomposition_coincide(bits):
    weight, method = gaussian(48, 64), LQLoRA(rank=4, bits=bits)
    plain, weighted = (method.decomposed(weight, importance=Importance(f)) for f in (None, torch.full((48, 64), 4.0)))
    assert torch.equal(plain.kept.codes, weighted.kept.codes)
    assert weighted.errors == pytest.approx([2 * error for error in plain.errors], rel=1e-5)
    assert torch.allclose(plain.pair[0] @ plain.pair[1], weighted.pair[0] @ weighted.pair[1], atol=1e-5)


def test_a_weighted_decomposition_leaves_less_of_what_matters():
    weight, importance = gaussian(48, 64), Importance(fisher_like(48, 64))
    method = LQLoRA(rank=8, bits=3)
    left = {one: importance.norm(weight - d.kept.restored(weight.shape) - d.pair[0] @ d.pair[1]) for one, d in (
        ("plain", method.decomposed(weight)), ("weighted", method.decomposed(weight, importance=importance))
    )}  # fmt: skip
    assert left["weighted"] < 0.9 * left["plain"]
    errors = method.decomposed(weight, importance=importance).errors
    assert len(errors) > 1 and errors == sorted(errors, reverse=True)


def test_a_weighted_pair_is_the_best_under_weights_of_rank_one():
    rows, columns = torch.rand(24, generator=torch.Generator().manual_seed(1)) + 0.1, torch.linspace(0.2, 3.0, 40)
    weight, importance = gaussian(24, 40), Importance(rows[:, None] * columns)
    up, down = importance.pair(weight, 5)
    s = torch.linalg.svdvals(importance.root * weight)
    assert importance.norm(weight - up @ down) == pytest.approx(float(s[5:].norm()), rel=1e-4)


def test_a_layer_without_gradient_is_decomposed_as_without_importance():
    weight, method = gaussian(16, 32), LQLoRA(rank=2, bits=3)
    one, other = method.decomposed(weight), method.decomposed(weight, importance=Importance(torch.zeros(16, 32)))
    assert torch.equal(one.kept.codes, other.kept.codes) and one.errors == other.errors
    few = torch.zeros(16, 32)
    few[3, 5] = 1.0
    assert all(map(np.isfinite, method.decomposed(weight, importance=Importance(few)).errors))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_fisher_information_is_the_sum_of_squared_gradients_of_single_sequences(architecture):
    table, model, plain = random_table(), tiny(architecture), tiny(architecture)
    found = fishers(model, table, 3)
    wanted = {name: torch.zeros_like(layer.weight) for name, layer in linear_layers(plain).items()}
    policy, objective = tiny_policy(plain.eval()), usual_parts()["objective"]
    for index in np.random.default_rng(0).permutation(len(table))[:3]:
        plain.zero_grad()
        loss = objective.loss(policy, collate(table, [index]))
        (loss.total / loss.weight).backward()
        for name, layer in linear_layers(plain).items():
            wanted[name] += layer.weight.grad**2
    assert set(found) == set(wanted)
    for name, layer in linear_layers(plain).items():
        own = wanted[name].T if architecture == "gpt2" else wanted[name]
        assert found[name].shape == shape_of(layer) and own.any()
        assert torch.allclose(found[name], own, rtol=1e-3, atol=1e-10)
    assert (
        all(p.requires_grad and p.grad is None for p in model.parameters())
        and model.training == tiny(architecture).training
    )


def test_fisher_needs_calibration_rows_and_is_refused_without():
    keys = {
        "model": {"path": "nano", "quantize": {"method": "lq_lora", "fisher": True}},
        "data": "nano:arithmetic/train",
    }
    with pytest.raises(BadInput, match="calibration"):
        Recipe.of(**keys)
    recipe = Recipe.of(**keys, supplies={"calibration": "nano:arithmetic/train"})
    assert recipe.supplies["calibration"]
    with pytest.raises(BadInput, match="asks for it"):
        Recipe.of(model="nano", data="nano:arithmetic/train", supplies={"calibration": "nano:arithmetic/train"})


def test_the_lock_of_a_run_names_the_calibration_rows(tmp_path):
    row = '{{"prompt": "w1 w{}", "completion": "w3 w4"}}\n'
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "rows")}
    for number, file in enumerate(files.values()):
        file.write_text("".join(row.format(9 * number + k) for k in range(8)))
    path = str(tiny_folder(tmp_path / "model"))
    recipe = Recipe.of(
        model={"path": path, "quantize": {"method": "lq_lora", "rank": 4, "bits": 3, "fisher": True}},
        data={"train": str(files["train"])}, adapter={"method": "lora", "rank": 4}, supplies={"calibration": str(files["rows"])}, train={"steps": 1}, evaluate=[],
    )  # fmt: skip
    run(recipe, tmp_path / "out", quiet=True)
    locked = json.loads((tmp_path / "out" / "lock.json").read_text())["data"]
    assert locked[str(files["rows"])] == sha256(files["rows"]) and str(files["train"]) in locked


def test_calibration_rows_change_what_is_kept_and_budget_follows_them():
    made = {}
    for fisher in (False, True):
        for budget in (None, 3.0):
            model = tiny()
            LQLoRA(rank=4, bits=3, fisher=fisher, budget=budget).apply(model, {"calibration": random_table()})
            layer = model.model.layers[1].mlp.down_proj
            made[fisher, budget] = layer.weight + layer.offer[0] @ layer.offer[1]
    for budget in (None, 3.0):
        assert not torch.equal(made[True, budget], made[False, budget])
