"""ASFT: its formula in both directions, its start, its special case."""

import pytest
import torch

from tunewright.objectives import ASFT, DFT
from tunewright.objectives._divergences import forward_kl, reverse_kl
from tunewright.testing.objectives import assert_equals_literal, loss_of
from tunewright.testing.runs import attach, differs, gradient, layouts, table_for, tiny_policy, usual_parts


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_equals_its_formula(direction):
    def formula(seen):
        p, q = (logits[:-1].softmax(-1) for logits in (seen.logits, seen.reference))
        own = p[torch.arange(len(p)), seen.ids[1:]]
        away = q * (q.log() - p.log()) if direction == "forward" else p * (p.log() - q.log())
        values = own.detach() * -own.log() + 0.7 * away.sum(-1)
        return (seen.weights[1:] * values).sum(), seen.weight

    assert_equals_literal(ASFT(kl_weight=0.7, direction=direction), formula)


def test_without_weight_it_is_dft():
    (one, loss), (other, same) = loss_of(ASFT(kl_weight=0.0)), loss_of(DFT())
    assert loss == same and differs(one, other) < 1e-6


def test_at_the_start_the_anchor_and_its_gradient_are_zero():
    policy = tiny_policy()
    attached = attach(usual_parts()["adapter"], policy)
    way = layouts(table_for(DFT()))["1 x all"]
    free, held = (gradient(policy, attached, method, way) for method in (DFT(), ASFT(kl_weight=5.0)))
    assert free[1] == pytest.approx(held[1], rel=1e-6)
    assert differs(free[0], held[0]) < 1e-5


def logs():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 13, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in range(2)]


def test_forward_divergence_is_torchs_and_never_negative():
    policy, other = logs()
    found, _ = forward_kl(policy, other)
    assert torch.allclose(found, torch.nn.functional.kl_div(policy, other.exp(), reduction="none").sum(-1))
    assert (found >= 0).all() and torch.allclose(forward_kl(policy, policy)[0], torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
def test_gradients_of_divergences(divergence):
    policy, other = logs()
    logits = policy.clone().requires_grad_()
    values, _ = divergence(logits.log_softmax(-1), other)
    (wanted,) = torch.autograd.grad(values.sum(), logits)
    assert torch.allclose(divergence(policy, other)[1], wanted)
