"""Q-GaLore: when bases are renewed, how they are stored."""

import pytest
import torch
from projected_runs import NAME, gradients, stepped
from torch import nn

from tunewright.models.quantize._blockwise import dynamic_map
from tunewright.optimize.optimizers import GaLore, QGaLore
from tunewright.optimize.optimizers.q_galore import quantized, restored


def renewals(method, steps, change=lambda step, gradient: gradient):
    along = gradients((12, 8), 1)[0]
    matrix = nn.Parameter(torch.zeros(12, 8))
    optimizer = method.build({NAME: matrix})
    found = []
    for step in range(steps):
        matrix.grad = change(step, along).clone()
        optimizer.step()
        if optimizer.state[matrix]["renewed"] == step + 1:
            found.append(step)
    return found


def test_the_gap_doubles_where_the_basis_stands_still():
    wanted = [0, 10, 20, 30, 40, 50, 70, 110, 190, 350]
    assert renewals(QGaLore(rank=2, gap=10), 360) == wanted
    assert renewals(QGaLore(rank=2, gap=10), 360, lambda step, g: g * (-1) ** (step // 10)) == wanted


def test_the_gap_stays_where_the_basis_turns():
    turning = lambda step, g: torch.randn(g.shape, generator=torch.Generator().manual_seed(step))
    assert renewals(QGaLore(rank=2, gap=10, similar=0.95), 100, turning) == list(range(0, 100, 10))


def test_four_bits_come_within_half_a_step():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    codes, steps, zeros = quantized(values, 4, 256)
    assert codes.max() <= 15 and len(steps) == 4
    apart = (restored(codes, steps, zeros, 256) - values).abs()
    assert (apart <= steps.repeat_interleave(256)[:1000]).all()
    assert apart.mean() < 0.3 * steps.mean()


def test_numbers_of_one_sign_are_kept():
    values = torch.linspace(5, 6, 256)
    codes, steps, zeros = quantized(values, 4, 256)
    assert (restored(codes, steps, zeros, 256) - values).abs().max() <= steps[0]


def test_many_bits_are_galore():
    along = gradients((12, 8), 3)
    found = stepped(QGaLore(lr=0.1, rank=8, proj_bits=8, proj_group=8, weight_bits=None), along)[0][-1]
    assert torch.allclose(found, stepped(GaLore(lr=0.1, rank=8), along)[0][-1], atol=2e-3)


def test_the_basis_takes_half_a_byte_per_number():
    _, state = stepped(QGaLore(rank=32), gradients((512, 512), 1))
    basis = sum(state[key].nbytes for key in ("codes", "steps", "zeros"))
    assert state["codes"].nbytes == 32 * 512 / 2
    assert 8 * basis / (32 * 512) == pytest.approx(4 + 64 / 256)


def test_going_back_keeps_the_codes_as_bytes():
    matrix = nn.Parameter(torch.zeros(12, 8))
    optimizer = QGaLore(rank=2).build({NAME: matrix})
    matrix.grad = gradients((12, 8), 1)[0]
    optimizer.step()
    before = optimizer.state[matrix]["codes"].clone()
    optimizer.load_state_dict(optimizer.state_dict())
    after = optimizer.state[matrix]["codes"]
    assert after.dtype == torch.uint8 and torch.equal(before, after)


def test_moments_take_a_byte_and_a_scale_each():
    _, state = stepped(QGaLore(rank=32), gradients((512, 512), 2))
    held = {name: value for name, value in state.items() if name.startswith(("mean", "square"))}
    assert set(held) == {"mean_codes", "mean_scales", "square_codes", "square_scales"}
    assert sum(value.nbytes for value in held.values()) == 2 * (32 * 512 + 4 * 32 * 512 / 256)
    _, small = stepped(QGaLore(rank=4), gradients((64, 32), 2))
    assert small["mean"].dtype == torch.float32 and "mean_codes" not in small


@pytest.mark.parametrize("name", [NAME, "model.embed_tokens.weight"])
def test_eight_bits_step_nearly_as_float32(name):
    along = gradients((96, 64), 12)
    # A rank of 64 takes no new basis here, so that only the moments differ.
    short, plain = (
        stepped(QGaLore(lr=0.1, rank=64, eight_bit_from=n, weight_bits=None), along, name=name)[0][-1]
        for n in (1, 10**9)
    )
    assert 0 < (short - plain).norm() / plain.norm() < 0.05


def test_a_mean_square_above_nothing_stays_above_nothing():
    matrix = nn.Parameter(torch.zeros(16, 16))
    optimizer = QGaLore(lr=0.1, eight_bit_from=1).build({"model.embed_tokens.weight": matrix})
    gradient = torch.full((16, 16), 1e-3)
    gradient[0, 0] = 1e3
    for step in range(3):
        matrix.grad = gradient if step == 0 else torch.zeros(16, 16)
        optimizer.step()
    # With a mean square of 0, what is left of the mean would be divided by eps alone: a step of about 30.
    assert matrix.detach().abs().max() < 1.0


def test_unsigned_dynamic_numbers():
    values = dynamic_map(signed=False)
    assert len(values.unique()) == 256 and values[0] == 0 and values[-1] == 1
    assert values[1] == pytest.approx(1e-6 * 0.325) and values[-2] == pytest.approx(1 - 0.9 / 128 / 2)


def test_going_back_keeps_moments_as_bytes():
    matrix = nn.Parameter(torch.zeros(12, 8))
    optimizer = QGaLore(rank=2, eight_bit_from=1).build({NAME: matrix})
    for gradient in gradients((12, 8), 2):
        matrix.grad = gradient
        optimizer.step()
    before = {name: value.clone() for name, value in optimizer.state[matrix].items() if isinstance(value, torch.Tensor)}
    optimizer.load_state_dict(optimizer.state_dict())
    after = optimizer.state[matrix]
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("group", [256, 40])
def test_stochastic_rounding_is_unbiased_between_the_two_neighbours(group):
    generator = torch.Generator().manual_seed(0)
    count, draws, together = 2 * group, 20_000, 1000
    values = torch.randn(count, generator=generator, dtype=torch.float64)
    _, steps, zeros = quantized(values, 8, group)
    spread = lambda each: each.repeat_interleave(group)
    below = (values / spread(steps)).floor() + spread(zeros)
    inside = (below >= 0) & (below + 1 <= 255)
    assert inside.double().mean() > 0.9
    total = torch.zeros(count, dtype=torch.float64)
    for _ in range(draws // together):
        codes = quantized(values.repeat(together), 8, group, generator)[0].double().view(together, count)
        assert ((codes == below) | (codes == below + 1))[:, inside].all()
        total += codes.sum(0)
    mean = (total / draws - spread(zeros)) * spread(steps)
    share = (values / spread(steps)) % 1
    error = spread(steps) * (share * (1 - share) / draws).sqrt()
    assert ((mean - values).abs() <= 5 * error)[inside].all()


def test_what_is_outside_the_codes_is_clamped_by_half_a_step_at_most():
    values = torch.randn(100, 64, generator=torch.Generator().manual_seed(3)).double()
    codes, steps, zeros = quantized(values, 8, 64, torch.Generator().manual_seed(0))
    apart = (restored(codes, steps, zeros, 64) - values.flatten()).abs() / steps.repeat_interleave(64)
    assert apart.max() <= 1.0 + 1e-9


def test_numbers_on_the_grid_never_move():
    steps = 0.01
    values = (torch.arange(256) - 100).float() * steps
    for seed in range(50):
        codes, *_ = quantized(values, 8, 256, torch.Generator().manual_seed(seed))
        assert (codes.int() - torch.arange(256)).abs().max() <= 1
    zeros = torch.zeros(256)
    assert not restored(*quantized(zeros, 8, 256, torch.Generator().manual_seed(0)), 256).any()


@pytest.mark.parametrize("stochastic", [True, False])
def test_weights_have_256_values_per_group_after_every_step(stochastic):
    method = QGaLore(lr=1e-2, rank=4, weight_group=512, stochastic_round=stochastic)
    start = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    seen, _ = stepped(method, gradients((32, 64), 3), start)
    for found in seen[1:]:
        for group in found.flatten().split(512):
            step = group.unique().diff().min()
            assert len(group.unique()) <= 256
            assert ((group / step) - (group / step).round()).abs().max() < 1e-2
    again = stepped(method, gradients((32, 64), 3), start)[0][-1]
    other = stepped(method.model_copy(update={"seed": 1}), gradients((32, 64), 3), start)[0][-1]
    assert torch.equal(seen[-1], again) and torch.equal(seen[-1], other) != stochastic


def test_a_step_far_below_a_code_moves_the_mean_and_only_by_stochastic_rounding():
    start = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    moved = {}
    for stochastic in (True, False):
        method = QGaLore(lr=1e-4, scale=1.0, rank=64, stochastic_round=stochastic, proj_bits=None)
        plain = method.model_copy(update={"weight_bits": None})
        # From values on the grid, so that rounding to nearest would leave them where they are.
        on_grid = stepped(
            method.model_copy(update={"lr": 1e-12, "stochastic_round": False}), gradients((64, 64), 1), start
        )[0][-1]
        along = gradients((64, 64), 30, seed=7)[:1] * 30
        ends = {
            name: stepped(one, along, on_grid)[0][-1] - on_grid for name, one in (("held", method), ("free", plain))
        }
        moved[stochastic] = float((ends["held"] * ends["free"]).sum() / ends["free"].square().sum())
    assert moved[True] == pytest.approx(1.0, abs=0.25)
    assert abs(moved[False]) < 0.25


def test_without_quantization_and_at_full_rank_it_is_adam_on_the_rotated_gradient():
    along = gradients((12, 8), 4)
    method = QGaLore(lr=0.1, rank=8, proj_bits=None, weight_bits=None, gap=1000)
    found = stepped(method, along)[0][-1].double()
    _, _, basis = torch.linalg.svd(along[0].double(), full_matrices=False)
    mean = square = total = 0.0
    for number, gradient in enumerate(along, 1):
        low = gradient.double() @ basis.T
        mean, square = 0.9 * mean + 0.1 * low, 0.999 * square + 0.001 * low**2
        total = total + mean / (1 - 0.9**number) / ((square / (1 - 0.999**number)).sqrt() + 1e-6)
    assert torch.allclose(found, -0.1 * 0.25 * total @ basis, atol=1e-5)


def test_other_parameters_are_not_rounded():
    plain = stepped(QGaLore(lr=0.1, weight_bits=None), gradients((16, 16), 2), name="model.embed_tokens.weight")[0][-1]
    assert torch.equal(stepped(QGaLore(lr=0.1), gradients((16, 16), 2), name="model.embed_tokens.weight")[0][-1], plain)
