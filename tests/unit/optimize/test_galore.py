"""GaLore against its formula; the bytes of its state."""

from itertools import pairwise

import pytest
import torch
from projected_runs import NAME, gradients, stepped
from torch import nn

from tunewright.optimize.optimizers import AdamW, GaLore


@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_equals_its_formula(shape):
    method = GaLore(lr=0.1, rank=3, gap=2, weight_decay=0.2, beta1=0.8, beta2=0.9, eps=1e-4)
    along = gradients(shape, 5)
    w = gradients(shape, 1, seed=1)[0].double()
    start, m, v = w.float(), 0.0, 0.0
    for t, gradient in enumerate(along, 1):
        g = gradient.double()
        if (t - 1) % 2 == 0:
            # In float32 as the method does, since signs of singular vectors are the library's choice.
            u, _, vt = (x.double() for x in torch.linalg.svd(gradient, full_matrices=False))
            p = vt[:3].T if shape[0] >= shape[1] else u[:, :3]
        r = g @ p if shape[0] >= shape[1] else p.T @ g
        m, v = 0.8 * m + 0.2 * r, 0.9 * v + 0.1 * r**2
        n = m / (1 - 0.8**t) / ((v / (1 - 0.9**t)).sqrt() + 1e-4)
        w = w - 0.1 * 0.25 * (n @ p.T if shape[0] >= shape[1] else p @ n)
        w = w * (1 - 0.1 * 0.2)
    assert torch.allclose(stepped(method, along, start)[0][-1].double(), w, atol=1e-5)


def test_the_full_rank_is_adam_on_the_rotated_gradient():
    along = gradients((12, 8), 3)
    _, _, p = torch.linalg.svd(along[0], full_matrices=False)
    rotated, _ = stepped(AdamW(lr=0.1, eps=1e-6), [g @ p.T for g in along])
    found, _ = stepped(GaLore(lr=0.1, rank=8), along)
    assert torch.allclose(found[-1], 0.25 * rotated[-1] @ p, atol=1e-5)


def test_state_is_the_basis_and_two_thin_moments():
    _, state = stepped(GaLore(rank=4), gradients((64, 32), 1))
    held = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    assert held == 4 * (2 * 4 * 64 + 4 * 32)
    plain = 4 * 2 * 64 * 32
    assert plain / held == pytest.approx(6.4)


def test_what_is_outside_the_blocks_has_plain_adam():
    along = gradients((12, 8), 3)
    found, _ = stepped(GaLore(lr=0.1, rank=2), along, name="model.embed_tokens.weight")
    wanted, _ = stepped(AdamW(lr=0.1, eps=1e-6), along)
    assert torch.allclose(found[-1], wanted[-1], atol=1e-6)


def test_a_new_basis_comes_every_gap_steps_and_moments_stay():
    along = gradients((12, 8), 5)
    matrix = nn.Parameter(torch.zeros(12, 8))
    optimizer = GaLore(rank=2, gap=2).build({NAME: matrix})
    bases, sizes = [], []
    for gradient in along:
        matrix.grad = gradient
        optimizer.step()
        bases.append(optimizer.state[matrix]["basis"].clone())
        sizes.append(optimizer.state[matrix]["square"].sum().item())
    changed = [not torch.equal(one, other) for one, other in pairwise(bases)]
    assert changed == [False, True, False, True]
    assert sizes == sorted(sizes)
