"""SpIEL: places, exchanges, seeded moments with ages of their own, SM3, resuming."""

import math

import pytest
import torch

from tunewright import catalog
from tunewright.adapters import SpIEL
from tunewright.adapters.sparse import spiel
from tunewright.adapters.sparse.spiel import moved, of_own_age
from tunewright.errors import BadInput
from tunewright.models.layers import linear_layers
from tunewright.recipe.composition import clashes
from tunewright.testing.models import tiny
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
from tunewright.train.checkpoint import Checkpoints, unpack
from tunewright.train.loop import Settings

TABLE = random_table()
METHOD = SpIEL(density=0.2, reselection_steps=6, accumulation_steps=3, initial_reselection_rate=0.5)
SGD = catalog.find("optimizer", "sgd")(lr=1e-2)


def looped(method=METHOD, steps=16, **given):
    parts = {"adapter": method} | ({"optimizer": SGD} if method.criterion == "sm3" else {})
    return tiny_loop(parts, table=TABLE, steps=steps, **given)


def started(loop):
    for hook in loop.hooks:
        hook.on_start(loop)
    return loop


def look(loop):
    return {
        name: {"places": layer.places.clone(), "weight": layer.changed().clone(), "delta": layer.delta.detach().clone()}
        for name, layer in loop.attached.layers.items()
    }


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_share_of_every_layer_trains_from_the_base(architecture):
    policy = tiny_policy(tiny(architecture))
    base = logits_of(policy, TABLE)
    made = attach(METHOD, policy)
    assert all(differs(a, b) < 1e-6 for a, b in zip(base, logits_of(policy, TABLE), strict=True))
    assert set(made.layers) == set(linear_layers(tiny(architecture)))
    for layer in made.layers.values():
        assert len(layer.places) == int(0.2 * layer.weight.numel()) == len(layer.places.unique())
        assert layer.places.dtype == torch.int32 and layer.delta.dtype == torch.float32
    one = attach(SpIEL(density=1e-6), tiny_policy())
    assert {len(layer.places) for layer in one.layers.values()} == {1}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_gradient_is_that_of_the_chosen_weights(architecture):
    policy = tiny_policy(tiny(architecture))
    made = attach(METHOD, policy)
    disturb(made)
    objective, batches = usual_parts()["objective"], layouts(TABLE)["1 x all"]
    ours, _ = gradient(policy, made, objective, batches)
    made.merge()
    weights = {name: layer.weight for name, layer in made.layers.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    loss = objective.loss(policy, batches[0])
    (loss.total / loss.weight).backward()
    wanted = [weights[name].grad.view(-1)[layer.places.long()] for name, layer in made.layers.items()]
    assert differs(torch.cat(wanted), ours) < 1e-5


def exchanges(monkeypatch, criterion, updates):
    """Every exchange within so many updates: the layer's name, what it was before, what was dropped, what it is now."""
    loop = started(looped(METHOD.model_copy(update={"criterion": criterion})))
    names = {id(layer): name for name, layer in loop.attached.layers.items()}
    seen = []

    def watched(layer, dropped, grown):
        before = look(loop)[names[id(layer)]] | {"total": layer.total, "candidates": layer.candidates}
        found = moved(layer, dropped, grown)
        seen.append((names[id(layer)], before, dropped, look(loop)[names[id(layer)]]))
        return found

    monkeypatch.setattr(spiel, "moved", watched)
    loop.advance(updates)
    return seen


@pytest.mark.parametrize("criterion", ["rigl", "sm3"])
def test_an_exchange_changes_the_weight_at_dropped_places_alone(criterion, monkeypatch):
    base, counts = bits(tiny()), set()
    for name, before, dropped, now in exchanges(monkeypatch, criterion, 15):
        k = len(before["places"])
        assert len(now["places"].unique()) == len(now["places"]) == k
        new = (now["places"] != before["places"]).nonzero()[:, 0]
        counts.add(len(new) / k)
        assert set(new.tolist()) <= set(dropped.tolist())
        assert (now["delta"][new] == 0).all()
        assert torch.equal(
            now["delta"][now["places"] == before["places"]], before["delta"][now["places"] == before["places"]]
        )
        changed = (now["weight"] != before["weight"]).flatten().nonzero()[:, 0]
        assert set(changed.tolist()) <= set(before["places"][new].tolist())
        assert torch.equal(now["weight"].flatten()[changed], base[f"{name}.weight"].flatten()[changed])
        sizes = before["delta"].abs().flatten()
        others = torch.ones(k, dtype=torch.bool).index_fill_(0, dropped, False)
        assert not others.any() or not len(dropped) or sizes[dropped].max() <= sizes[others].min()
    assert max(counts) > 0.5 and len(counts) > 3


def test_what_grows_has_the_largest_sum_among_the_candidates(monkeypatch):
    seen = exchanges(monkeypatch, "rigl", 15)
    assert len(seen) == 3 * 14
    for _, before, dropped, now in seen:
        sums = dict(zip(before["candidates"].tolist(), before["total"].abs().tolist(), strict=True))
        staying = set(before["places"].tolist()) - set(before["places"][dropped].tolist())
        free = sorted((value for place, value in sums.items() if place not in staying), reverse=True)
        added = set(now["places"].tolist()) - staying
        assert len(added) == len(dropped)
        assert sorted((sums[place] for place in added), reverse=True) == free[: len(added)]


def test_the_share_falls_to_nothing():
    linear, cosine = SpIEL(), SpIEL(rate_policy="cosine")
    assert [linear.rate(t, 100) for t in (5, 25, 100)] == [1.0, pytest.approx(0.15), 0.0]
    assert [cosine.rate(t, 100) for t in (5, 50, 100)] == pytest.approx(
        [0.1 * (1 + math.cos(math.pi * 0.05)), 0.1, 0.0], abs=1e-12
    )
    assert linear.rate(5, 5) == 0.0


@pytest.mark.parametrize("policy", ["linear", "cosine"])
def test_no_exchange_rate_keeps_the_first_places_or_those_of_the_first_choice(policy):
    method = METHOD.model_copy(update={"initial_reselection_rate": 0.0, "rate_policy": policy})
    loop = started(looped(method))
    first = look(loop)
    loop.advance(3)
    chosen = look(loop)
    loop.advance(12)
    last = look(loop)
    same = lambda one, other: all(torch.equal(one[n]["places"], other[n]["places"]) for n in one)
    assert same(chosen, last)
    assert same(first, chosen) == (policy == "cosine")


@pytest.mark.parametrize(
    "settings", [Settings(micro_batch_tokens=1000, clip=None), Settings(micro_batch_tokens=16, clip=0.05)]
)
def test_candidates_are_the_largest_gradients_of_a_whole_update(settings):
    loop = started(looped(settings=settings))
    plain = tiny_loop({"adapter": catalog.find("adapter", "full")()}, table=TABLE, settings=settings, steps=16)
    loop.advance(1)
    full = {}
    plain.hooks.append(type("Keep", (type(loop.attached.selection).__base__,), {
        "after_backward": lambda self, one: full.update({n: p.grad.clone() for n, p in one.attached.trained().items()})
    })())  # fmt: skip
    plain.advance(1)
    norm = torch.cat([layer.delta.grad.flatten() for layer in loop.attached.layers.values()]).norm()
    for name, layer in loop.attached.layers.items():
        whole = full[f"{name}.weight"].flatten()
        k = len(layer.places)
        places = layer.candidates.long()
        assert whole[places].abs().min() >= whole.abs().sort(descending=True).values[k - 1] * (1 - 1e-4)
        # On the optimizer's scale: clipped by as much as the gradient of what trains.
        factor = float(layer.total.norm() / whole[places].norm())
        assert torch.allclose(layer.total, factor * whole[places], atol=1e-6)
        assert torch.allclose(layer.square, layer.total**2)
        assert factor == pytest.approx(1.0, abs=1e-3) if settings.clip is None else factor < 1
    if settings.clip is not None:
        assert float(norm) == pytest.approx(settings.clip, rel=1e-3)


def test_a_constant_gradient_seeds_moments_that_are_it_and_its_square():
    policy = tiny_policy()
    made = attach(METHOD, policy)
    optimizer = usual_parts()["optimizer"].build(made.trained())
    c, one = 0.37, torch.ones(())
    made.selection.total = 100
    for step in range(3):
        for layer in made.layers.values():
            layer.watching = True
            layer.note(torch.full(layer.weight.shape, c))
            layer.gather(lambda t: t, one)
            layer.delta.grad = torch.full_like(layer.delta, c)
        made.selection.gathered += 1
        before = {name: layer.places.clone() for name, layer in made.layers.items()}
        optimizer.step()
        made.after_step(optimizer, step)
    new = 0
    for name, layer in made.layers.items():
        state, grown = optimizer.state[layer.delta], (layer.places != before[name]).nonzero()[:, 0]
        new += len(grown)
        age = state["age"][grown].double()
        assert (age == 3).all()
        assert torch.allclose(state["exp_avg"][grown] / (1 - 0.9**age), torch.tensor(c).double(), rtol=1e-6)
        assert torch.allclose(state["exp_avg_sq"][grown] / (1 - 0.999**age), torch.tensor(c**2).double(), rtol=1e-5)
    assert new > 0


def test_every_number_steps_as_adam_of_its_own_age():
    torch.manual_seed(0)
    delta = torch.nn.Parameter(torch.zeros(4, 1, dtype=torch.float32))
    group = {"params": [delta], "lr": 0.1, "weight_decay": 0.3}
    optimizer = torch.optim.AdamW([group], betas=(0.9, 0.999), eps=1e-8, fused=True)
    ages, m, v, p = torch.zeros(4).double(), torch.zeros(4).double(), torch.zeros(4).double(), torch.zeros(4).double()
    for step in range(6):
        g = torch.randn(4)
        delta.grad = g[:, None].clone()
        optimizer.step()
        with torch.no_grad():
            of_own_age(delta, optimizer.state[delta], optimizer.param_groups[0])
        ages += 1
        m, v = 0.9 * m + 0.1 * g.double(), 0.999 * v + 0.001 * g.double() ** 2
        p = p * (1 - 0.1 * 0.3) - 0.1 * (m / (1 - 0.9**ages)) / ((v / (1 - 0.999**ages)).sqrt() + 1e-8)
        assert torch.allclose(delta[:, 0].double(), p, atol=1e-6)
        if step == 2:
            m[1], v[1], ages[1], p[1] = 0.02, 0.0003, 2, 0.0
            state = optimizer.state[delta]
            state["exp_avg"][1], state["exp_avg_sq"][1], state["age"][1] = 0.02, 0.0003, 2.0
            with torch.no_grad():
                delta[1] = 0.0


def test_without_exchanges_it_is_adam():
    method = SpIEL(density=0.2, initial_reselection_rate=0.0, rate_policy="cosine")
    found = []
    for aged in (True, False):
        loop = looped(method)
        if not aged:
            loop.attached.after_step = lambda optimizer, step: None
        loop.run()
        found.append(torch.cat([p.detach().flatten() for p in loop.attached.trained().values()]))
    assert differs(*found) < 1e-6


@pytest.mark.parametrize("criterion", ["rigl", "sm3"])
@pytest.mark.parametrize("stop", [1, 4, 8, 9])
def test_resuming_equals_not_stopping(criterion, stop, tmp_path):
    method = METHOD.model_copy(update={"criterion": criterion})
    whole = looped(method, steps=14)
    whole.run()
    first = started(looped(method, steps=14))
    first.advance(stop)
    Checkpoints(tmp_path, every=1, keep=1).write(first)
    again = looped(method, steps=14)
    unpack(again, next(tmp_path.glob("step-*")))
    again.run()
    assert not differing_bits(whole.attached.state(), again.attached.state())


def test_looking_ahead_and_going_back_changes_nothing():
    one, other = started(looped()), started(looped())
    for loop in (one, other):
        loop.advance(7)
        if loop is other:
            snapshot = loop.snapshot()
            loop.probe(5, 1.0)
            loop.restore(snapshot)
        loop.advance(6)
    assert not differing_bits(one.attached.state(), other.attached.state())


def test_layouts_gather_the_same():
    found = []
    for settings in (Settings(micro_batch_tokens=1000), Settings(micro_batch_tokens=16), Settings(layout="packed")):
        loop = started(looped(settings=settings))
        loop.advance(2)
        found.append(torch.cat([layer.total.abs().sort().values for layer in loop.attached.layers.values()]))
    assert all(differs(found[0], one) < 1e-3 for one in found[1:])


def test_sm3_against_the_formula(monkeypatch):
    loop = started(
        looped(
            METHOD.model_copy(update={"criterion": "sm3", "initial_reselection_rate": 0.0, "rate_policy": "cosine"}),
            settings=Settings(clip=None),
        )
    )
    layer = next(iter(loop.attached.layers.values()))
    rows, columns = (torch.zeros(n).double() for n in layer.weight.shape)
    raw, wanted = [], torch.zeros(len(layer.places)).double()
    usual = spiel.precondition

    def watched(one, state):
        if one is layer:
            raw.append(layer.delta.grad[:, 0].double())
        usual(one, state)

    monkeypatch.setattr(spiel, "precondition", watched)
    for step in range(5):
        rate = 1e-2 * loop.factor(step, loop.total)
        loop.advance(1)
        i, j = layer.places.long() // layer.weight.shape[1], layer.places.long() % layer.weight.shape[1]
        cover = torch.minimum(rows[i], columns[j]) + raw[-1] ** 2
        wanted -= rate * raw[-1] / (cover + 1e-8).sqrt()
        for n in range(len(i)):
            rows[i[n]], columns[j[n]] = max(rows[i[n]], cover[n]), max(columns[j[n]], cover[n])
        assert torch.allclose(layer.delta[:, 0].double(), wanted, atol=1e-6)


def test_optimizers_that_cannot_seed_are_refused_before_loading():
    optimizer = lambda name, **given: catalog.find("optimizer", name)(**given)
    of = lambda method, other: list(clashes({("adapter",): method, ("optimizer",): other}))
    assert not of(METHOD, optimizer("adamw"))
    sm3 = METHOD.model_copy(update={"criterion": "sm3"})
    assert not of(sm3, optimizer("sgd"))
    for method, other in ((METHOD, optimizer("sgd")), (METHOD, optimizer("galore")), (METHOD, optimizer("mezo")), (sm3, optimizer("adamw")), (sm3, optimizer("sgd", momentum=0.9))):  # fmt: skip
        [clash] = of(method, other)
        assert clash.place == ("optimizer",)
    [clash] = of(METHOD, optimizer("lion"))
    assert clash.hint == "Use adamw."
    with pytest.raises(BadInput, match="another optimizer"):
        tiny_loop({"adapter": METHOD, "optimizer": SGD}, table=TABLE).run()


def test_a_quantized_base_trains_and_is_not_merged():
    policy = tiny_policy()
    catalog.find("quantizer", "nf4")().apply(policy.model)
    base = logits_of(policy, TABLE)
    loop = tiny_loop({"adapter": METHOD}, model=policy.model, table=TABLE, steps=8)
    loop.run()
    assert max(differs(a, b) for a, b in zip(base, logits_of(policy, TABLE), strict=True)) > 1e-3
    with loop.attached.disabled():
        assert all(torch.equal(a, b) for a, b in zip(base, logits_of(policy, TABLE), strict=True))
    with pytest.raises(BadInput, match="quantized"):
        loop.attached.merge()


def test_merging_is_exact_to_the_bit():
    policy = tiny_policy(tiny(dtype=torch.bfloat16))
    made = attach(METHOD, policy)
    disturb(made, size=0.01)
    tuned = logits_of(policy, TABLE)
    made.merge()
    assert all(torch.equal(a, b) for a, b in zip(tuned, logits_of(policy, TABLE), strict=True))


def test_places_that_do_not_fit_are_refused():
    made = attach(METHOD, tiny_policy())
    state = made.state()
    name = next(name for name in state if name.endswith(".places"))
    for wrong in (state[name] + 10_000, torch.zeros_like(state[name]), state[name].float(), state[name][1:]):
        with pytest.raises(BadInput, match="does not fit"):
            made.load_state(state | {name: wrong})


def test_more_gathering_than_updates_between_is_refused():
    with pytest.raises(ValueError, match="at most"):
        SpIEL(reselection_steps=4, accumulation_steps=5)
