"""LoRC against its identities."""

import pytest
import torch

from tunewright.models.quantize import LoRC


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("bits", "symmetric"), [(3, False), (4, True), (4, False)])
def test_the_error_is_the_singular_values_that_were_left_out(bits, symmetric):
    weight = gaussian(48, 64)
    plain = weight - LoRC(bits=bits, symmetric=symmetric, rank=0).store(weight).restored()
    found = weight - LoRC(bits=bits, symmetric=symmetric, rank=8, factors="float32").store(weight).restored()
    values = torch.linalg.svdvals(plain.double())
    assert found.double().square().sum().item() == pytest.approx(values[8:].square().sum().item(), rel=1e-5)
    assert found.norm() <= plain.norm()


def test_the_full_rank_restores_the_weight():
    weight = gaussian(20, 32)
    found = LoRC(bits=2, rank=20, factors="float32").store(weight).restored()
    assert torch.allclose(found, weight, atol=1e-5)


def test_two_thin_products_equal_the_restored_weight():
    weight, x = gaussian(48, 64), gaussian(5, 64, seed=1)
    stored, plain = LoRC(factors="float32").store(weight), LoRC(rank=0).store(weight)
    wanted = x @ plain.restored().T + (x @ stored.down.T) @ stored.up.T
    assert torch.allclose(x @ stored.restored().T, wanted, atol=1e-5)


def test_the_correction_of_64_by_64_is_1024_numbers():
    weight = gaussian(64, 64)
    assert LoRC().store(weight).bytes - LoRC(rank=0).store(weight).bytes == 2 * 1024


def test_bytes_are_codes_scales_and_factors():
    stored = LoRC(bits=3, group=128, rank=8).store(gaussian(256, 512))
    assert stored.bytes == 256 * 512 * 3 // 8 + 2 * 2 * 256 * 4 + 2 * 8 * (256 + 512)


def test_smaller_groups_and_zero_points_help():
    weight = gaussian(64, 512) + 0.5
    error = lambda **options: (weight - LoRC(rank=0, **options).store(weight).restored()).norm().item()
    assert error(group=32) < error(group=512)
    assert error(symmetric=False) < error(symmetric=True)


def test_a_short_last_group_stands_alone():
    weight = gaussian(4, 40)
    weight[:, 32:] *= 1e-3
    found = LoRC(rank=0, group=32).store(weight).restored()
    assert (found - weight)[:, 32:].abs().max() < 1e-3
