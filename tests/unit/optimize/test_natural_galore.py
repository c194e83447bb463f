"""Natural GaLore: the natural gradient against a dense solve, its history, its limits."""

import pytest
import torch
from projected_runs import gradients, stepped

from tunewright.optimize.optimizers import GaLore, NaturalGaLore
from tunewright.optimize.optimizers.natural_galore import natural


def rows(scale, count=5, width=30):
    return scale * torch.randn(count, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 10.0])
def test_equals_the_dense_solve_where_the_papers_form_fails(scale):
    history, damping = rows(scale), 1e-3
    g = history.double().T
    dense = torch.linalg.solve(damping * torch.eye(30).double() + g @ g.T, g[:, -1])
    found = natural(history, damping).double()
    assert (found - dense).norm() / dense.norm() < 1e-5
    small = torch.linalg.solve(torch.eye(5) + history @ history.T / damping, history @ history[-1])
    paper = history[-1] / damping - history.T @ small / damping**2
    fails = ((paper.double() - dense).norm() / dense.norm()) > 1e-5
    assert fails == (scale >= 1)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 10.0])
def test_goes_down_and_alone_is_the_scaled_gradient(scale):
    history = rows(scale)
    assert natural(history, 1e-3) @ history[-1] > 0
    alone = history[-1:]
    assert torch.allclose(natural(alone, 1e-3), alone[0] / (1e-3 + alone.square().sum()), rtol=1e-5)


def test_large_damping_gives_the_direction_of_the_gradient():
    history = rows(1.0)
    found = natural(history, 1e8)
    assert torch.cosine_similarity(found, history[-1], dim=0) > 1 - 1e-6


def test_equal_gradients_do_not_break_the_solve():
    assert torch.isfinite(natural(torch.ones(5, 30) * 1e4, 1e-12)).all()


def test_the_history_is_bounded_and_cleared_at_a_new_basis():
    method = NaturalGaLore(rank=2, gap=4, history=3)
    lengths = [len(stepped(method, gradients((12, 8), steps))[1]["history"]) for steps in range(1, 10)]
    assert lengths == [1, 2, 3, 3, 1, 2, 3, 3, 1]
    assert len(stepped(NaturalGaLore(rank=2, history=1), gradients((12, 8), 3))[1]["history"]) == 1


def test_large_relative_damping_is_galore():
    along = gradients((12, 8), 4)
    far = NaturalGaLore(lr=0.1, rank=3, gap=2, damping=1e6, history=1, eps=1e-30)
    assert torch.allclose(
        stepped(far, along)[0][-1], stepped(GaLore(lr=0.1, rank=3, gap=2, eps=1e-30), along)[0][-1], atol=1e-4
    )


def test_further_state_is_the_history():
    bytes_of = lambda method: sum(
        v.nbytes for v in stepped(method, gradients((64, 32), 5))[1].values() if isinstance(v, torch.Tensor)
    )
    assert bytes_of(NaturalGaLore(rank=4, history=5)) - bytes_of(GaLore(rank=4)) == 5 * 4 * 64 * 4
