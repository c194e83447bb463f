"""MeZO: the estimate, exact put-back, rebuilding from seeds and numbers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tunewright.optimize.optimizers import MeZO
from tunewright.optimize.optimizers.mezo import chances, exchanged


def parameters(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = {"w": (6, 5), "b": (5,)}
    return {n: nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for n, s in shapes.items()}


def quadratic(trained):
    return lambda: float(sum((p.double() ** 2).sum() for p in trained.values()))


def walked(method, steps, dtype=torch.float64, rate=lambda step: 1.0):
    trained = parameters(dtype)
    start = {n: p.detach().clone() for n, p in trained.items()}
    optimizer = method.build(trained)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate(step)
        optimizer.step(quadratic(trained))
    return start, trained, optimizer


def test_one_step_is_the_slope_along_its_direction():
    method = MeZO(lr=0.01, seeds=1, eps=1e-3)
    start, trained, _ = walked(method, 1)
    z = [method.direction(value, 0, index) for index, value in enumerate(start.values())]
    slope = sum(float((2 * value * d).sum()) for value, d in zip(start.values(), z, strict=True))
    for (name, value), d in zip(start.items(), z, strict=True):
        assert torch.allclose(trained[name], value - 0.01 * slope * d, atol=1e-9)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_weights_are_rebuilt_from_the_first_ones_and_one_number_per_seed(dtype, within):
    method = MeZO(lr=1e-3, seeds=16)
    start, trained, optimizer = walked(method, 200, dtype, rate=lambda step: 1 / (1 + step))
    moved = optimizer.state[trained["w"]]["moved"]
    assert len(moved) == 16
    found = method.rebuilt(start, moved, 1e-3)
    assert any(not torch.equal(start[name], trained[name]) for name in start)
    for name, value in trained.items():
        assert torch.allclose(found[name], value, rtol=0, atol=within)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_order_of_seeds_does_not_matter(dtype, within):
    method = MeZO(lr=1e-3, seeds=16)
    start, trained, optimizer = walked(method, 200, dtype)
    moved, found = optimizer.state[trained["w"]]["moved"], start
    for seed in np.random.default_rng(0).permutation(16):
        found = method.rebuilt(found, [length * (own == seed) for own, length in enumerate(moved)], 1e-3)
    for name, value in trained.items():
        assert torch.allclose(found[name], value, rtol=0, atol=within)


def test_two_clients_of_equal_weight_meet_in_the_middle():
    method = MeZO(lr=1e-3, seeds=8)
    start, ends, sums = {n: p.detach().clone() for n, p in parameters().items()}, [], []
    for client in range(2):
        trained, rng, gained = parameters(), np.random.default_rng(client), [0.0] * 8
        target = {n: torch.full_like(p, client + 1.0) for n, p in trained.items()}
        loss = lambda: float(sum(((p - target[n]) ** 2).sum() for n, p in trained.items()))  # noqa: B023
        for seed in rng.integers(8, size=20).tolist():
            slope = method.slope([*enumerate(trained.values())], seed, loss)
            gained[seed] += slope
            with torch.no_grad():
                for index, p in enumerate(trained.values()):
                    p.sub_(method.direction(p, seed, index), alpha=1e-3 * slope)
        ends.append(trained)
        sums.append(gained)
    middle = method.rebuilt(start, [(one + other) / 2 for one, other in zip(*sums, strict=True)], 1e-3)
    for name, value in middle.items():
        assert torch.allclose(value, (ends[0][name] + ends[1][name]) / 2, rtol=0, atol=1e-10)


def test_bytes_of_a_client_and_round():
    assert exchanged(4096, 200) == 17984


def test_chances_of_seeds_follow_their_slopes():
    assert np.array_equal(chances([[3.0]] * 5), np.full(5, 0.2)) and np.array_equal(chances([[]] * 4), np.full(4, 0.25))
    # psi = 0, (0 + 4) / 2 = 2 and (0 + 1 + 2) / 3 = 1: brought to 0, 1 and 1/2.
    weights = [1.0, math.e, math.e**0.5]
    assert chances([[], [-4.0], [1.0, 2.0]]) == pytest.approx([w / sum(weights) for w in weights], abs=1e-15)
    # Slopes are cut at 1000: both of these have psi 500.
    found = chances([[1e9], [1000.0], [0.0]])
    assert found[0] == found[1] > found[2]
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = chances([rng.normal(0, 10, rng.integers(4)) for _ in range(6)])
        assert found.sum() == pytest.approx(1) and found.max() / found.min() <= math.e * (1 + 1e-12)


def test_steps_of_two_runs_add_up():
    method = MeZO(lr=1e-3, seeds=8)
    start = {n: p.detach() for n, p in parameters().items()}
    one, other = torch.randn(2, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64).tolist()
    both = method.rebuilt(start, [(a + b) / 2 for a, b in zip(one, other, strict=True)], 1e-3)
    half = [method.rebuilt(start, moved, 1e-3) for moved in (one, other)]
    for name in start:
        assert torch.allclose(both[name], (half[0][name] + half[1][name]) / 2, atol=1e-12)


def test_weights_are_put_back_exactly_where_a_step_is_skipped():
    start, trained, _ = walked(MeZO(lr=1.0, largest_change=1e-12), 5, torch.float32)
    assert all(torch.equal(start[name], trained[name]) for name in start)


def test_a_loss_that_is_not_finite_moves_nothing():
    trained = parameters()
    start = {n: p.detach().clone() for n, p in trained.items()}
    MeZO(lr=1.0).build(trained).step(lambda: float("nan"))
    assert all(torch.equal(start[name], trained[name]) for name in start)


def test_no_tensor_of_state():
    _, _, optimizer = walked(MeZO(seeds=4), 3)
    assert not [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]


def test_a_loss_falls():
    _, trained, _ = walked(MeZO(lr=5e-3), 400)
    assert quadratic(trained)() < 0.1 * quadratic(parameters())()


def test_a_parameter_at_rest_stays():
    trained = parameters()
    trained["b"].requires_grad_(False)
    before = trained["b"].detach().clone()
    MeZO(lr=0.1).build(trained).step(quadratic(trained))
    assert torch.equal(trained["b"], before)
