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
    found = stepped(QGaLore(lr=0.1, rank=8, proj_bits=8, proj_group=8), along)[0][-1]
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
    short, plain = (stepped(QGaLore(lr=0.1, rank=64, eight_bit_from=n), along, name=name)[0][-1] for n in (1, 10**9))
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
