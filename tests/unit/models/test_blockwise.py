"""Four-bit codes: the published table, exact cases, and errors in their order."""

from __future__ import annotations

import pytest
import torch

from tunewright.models.quantize._blockwise import dequantize, fp4, nf4, quantize, uniform4

PUBLISHED = [-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0, 0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626,
             0.7230, 1]  # fmt: skip


def test_nf4_is_the_published_table() -> None:
    assert nf4().tolist() == pytest.approx(PUBLISHED, abs=1e-4)
    assert float(nf4()[7]) == 0.0


def test_zeros_and_the_largest_of_a_block_are_exact() -> None:
    weight = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    weight[0] = 0.0
    back = dequantize(quantize(weight, nf4()), nf4())
    flat, made = weight.flatten(), back.flatten()
    assert back.shape == weight.shape and (made[flat == 0] == 0).all()
    for start in range(0, len(flat), 64):
        block = flat[start : start + 64]
        if block.abs().max() > 0:
            place = start + int(block.abs().argmax())
            assert abs(made[place]) == abs(flat[place])
    assert (dequantize(quantize(torch.zeros(3, 5), nf4()), nf4()) == 0).all()


def test_every_weight_gets_the_nearest_value() -> None:
    weight = torch.randn(64, generator=torch.Generator().manual_seed(1))
    for table in (nf4(), fp4(), uniform4()):
        made = quantize(weight, table)
        unit = weight / weight.abs().max()
        assert (made.codes.long() == (unit[:, None] - table).abs().argmin(1)).all()


def test_errors_on_gaussian_weights_are_in_the_papers_order() -> None:
    weight = torch.randn(2000, 64, generator=torch.Generator().manual_seed(2))
    error = lambda table: float((dequantize(quantize(weight, table), table) - weight).pow(2).mean())
    assert error(nf4()) < error(fp4()) and error(nf4()) < error(uniform4())


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        quantize(torch.tensor([1.0, float("nan")]), nf4())
