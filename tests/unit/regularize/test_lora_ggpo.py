"""Guided weight noise: its size, its law, and where there is none."""

import pytest
import torch

from tunewright.adapters import Full
from tunewright.recipe.composition import clashes
from tunewright.regularize import LoraGGPO
from tunewright.testing.models import tiny
from tunewright.testing.runs import Steps, differing_bits, disturb, tiny_loop


def noisy(method, architecture="llama"):
    """A loop with the noise in place after one step, that step's adapter, and its gradients."""
    hook = method.hook()
    loop = tiny_loop(hooks=[hook], model=tiny(architecture))
    disturb(loop.attached)
    held = {}

    def keep(inner):
        held.update({name: (p.detach().clone(), p.grad.clone()) for name, p in loop.attached.trained().items()})

    usual = hook.before_step
    hook.before_step = lambda inner: (keep(inner), usual(inner))
    loop.advance(1)
    hook.before_step = usual
    return loop, hook, held


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_size_of_the_noise(architecture):
    loop, hook, held = noisy(LoraGGPO(sigma=0.03, beta=0.5), architecture)
    for name, layer in loop.attached.layers.items():
        (down, at_down), (up, at_up) = held[f"{name}.down"], held[f"{name}.up"]
        base = layer.weight.detach().double()
        base = base.T if architecture == "gpt2" else base
        down, at_down, up, at_up = (value.double() for value in (down, at_down, up, at_up))
        w = (base.square().sum(1) + (layer.scale * up @ down).square().sum(1)).sqrt()
        g = (layer.scale * (up @ at_down + at_up @ down)).norm(dim=1)
        wanted = (0.03 * w + 0.5 * g**2) / len(w) ** 0.5
        assert torch.allclose(hook.sizes[f"model.{name}"].double(), wanted, rtol=1e-4)


def test_rows_of_the_noise_have_that_deviation_and_no_mean_effect():
    _, hook, _ = noisy(LoraGGPO(sigma=0.5))
    name = next(iter(hook.sizes))
    size = hook.sizes[name]
    x = torch.randn(32, generator=torch.Generator().manual_seed(3))
    drawn, added = [], []
    for step in range(320):
        hook.seed = (0, step)
        matrix = hook.matrix(0, name, 32)
        drawn.append(matrix)
        added.append(matrix @ x)
    found = torch.cat(drawn, 1)
    assert found.shape[1] > 10_000
    assert ((found.std(1) / size - 1).abs() < 0.03).all()
    mean = torch.stack(added).mean(0)
    assert (mean.abs() < 4 * size * x.norm() / 320**0.5).all()


def test_a_layer_in_training_adds_the_noise_times_its_input():
    loop, hook, _ = noisy(LoraGGPO(sigma=0.5))
    layer = next(iter(loop.attached.layers.values()))
    name = next(iter(hook.sizes))
    x = torch.randn(2, 3, 32)
    hook.seed = None
    with torch.no_grad():
        quiet = layer(x)
        hook.seed = (0, 5)
        assert torch.allclose(layer(x) - quiet, x @ hook.matrix(0, name, 32).T, atol=1e-6)
        layer.enabled = False
        off = layer(x)
        hook.seed = None
        assert torch.equal(layer(x), off)
        layer.enabled = True
        layer.eval()
        hook.seed = (0, 5)
        assert torch.equal(layer(x), quiet)


def test_without_noise_it_is_plain_training_bit_for_bit():
    plain, quiet = tiny_loop(), tiny_loop({"regularizer": LoraGGPO(sigma=0.0, beta=0.0)})
    plain.run()
    quiet.run()
    assert not differing_bits(plain.attached.state(), quiet.attached.state())


def test_the_first_step_has_noise_only_if_asked():
    losses = []
    for parts in ({}, {"regularizer": LoraGGPO(sigma=0.5)}, {"regularizer": LoraGGPO(sigma=0.5, start="first_step")}):
        loop = tiny_loop(parts)
        losses.append(loop.probe(1, 1.0)[0] if not parts else _first_loss(loop))
    assert losses[0] == losses[1] != losses[2]


def _first_loss(loop):
    steps = Steps()
    loop.hooks.append(steps)
    loop.advance(1)
    return steps.done[0].loss


def test_an_adapter_that_is_not_low_rank_is_refused():
    methods = {("regularize", 0): LoraGGPO(), ("adapter",): Full()}
    [clash] = clashes(methods)
    assert clash.place == ("adapter",) and "low_rank" in clash.reason
