"""NF4 with double quantization: bytes, scales, errors."""

import pytest
import torch

from tunewright.models.quantize import NF4
from tunewright.models.quantize._blockwise import normal_float, restored
from tunewright.models.quantize._packed import pack, unpack
from tunewright.models.quantize.nf4 import dynamic_map


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_takes_4_127_bits_per_weight_and_4_5_without_double_quantization():
    weight = gaussian(1024, 1024)
    the_mean = 4
    double, single = (NF4(double_quant=on).store(weight).bytes for on in (True, False))
    assert (double - the_mean) * 8 / weight.numel() == pytest.approx(4.127, abs=5e-4)
    assert single * 8 / weight.numel() == 4.5


def test_zeros_and_the_largest_of_a_block_are_exact_without_double_quantization():
    weight = gaussian(8, 64)
    weight[:, 7] = 0.0
    found = NF4(double_quant=False).store(weight).restored()
    assert (found[:, 7] == 0).all()
    largest = weight.abs().argmax(1, keepdim=True)
    assert torch.equal(found.gather(1, largest).abs(), weight.gather(1, largest).abs())


def test_double_quantization_hardly_adds_to_the_error():
    weight = gaussian(512, 512)
    double, single = (
        (NF4(double_quant=on).store(weight).restored() - weight).square().mean().item() for on in (True, False)
    )
    assert single < double < 1.01 * single


def test_the_dynamic_map_has_256_different_values():
    values = dynamic_map()
    assert len(values.unique()) == 256 and values[-1] == 1 and 0 in values
    assert values[-2] == pytest.approx(0.9930, abs=1e-4) and values[0] == -values[-2]
    smallest = values[values > 0][0]
    assert smallest == pytest.approx(0.55e-6, rel=1e-5)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 64, 1001])
def test_packing_gives_back_every_code(bits, count):
    codes = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(bits)).to(torch.uint8)
    packed = pack(codes, bits)
    assert len(packed) == -(-count * bits // 8)
    assert torch.equal(unpack(packed, bits, count), codes)


def test_a_quantized_layer_keeps_nothing_but_its_input_side_for_the_backward_pass():
    layer = NF4().replaced(torch.nn.Linear(64, 64, bias=False))
    kept = []
    note = lambda tensor: kept.append(tensor.nbytes) or tensor
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(gaussian(4, 64).requires_grad_())
    assert kept == []


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(64, 64), (7, 33), (1, 3)])
def test_restoring_packed_codes_is_looking_up_every_level(bits, shape):
    count = shape[0] * shape[1]
    codes = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(bits)).to(torch.uint8)
    scales = torch.rand(-(-count // 16), generator=torch.Generator().manual_seed(1))
    wanted = (normal_float(bits)[codes.long()] * scales.repeat_interleave(16)[:count]).view(shape)
    assert torch.equal(restored(pack(codes, bits), bits, scales, torch.Size(shape), 16), wanted)


@pytest.mark.parametrize("shape", [(192, 512), (7, 33)])
def test_bitsandbytes_stores_the_same_bytes_and_restores_the_same_weights(shape):
    theirs = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed").functional
    weight = gaussian(*shape)
    for double in (False, True):
        ours = NF4(double_quant=double).store(weight)
        packed, state = theirs.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=double)
        # Theirs fills up to whole blocks, with the code of 0.
        assert torch.equal(packed.flatten()[: weight.numel() // 2], ours.packed[: weight.numel() // 2])
        if double:
            assert torch.equal(state.state2.absmax, ours.constants) and torch.equal(state.offset, ours.mean)
            # Near the middle between two of the 256 values either may be taken.
            apart = (state.absmax.int() - ours.scale_codes.int()).abs()
            assert apart.max() <= 1 and apart.count_nonzero() <= 0.01 * len(apart)
        else:
            assert torch.equal(state.absmax, ours.scales)
            assert torch.allclose(theirs.dequantize_4bit(packed, state), ours.restored(), rtol=2e-6, atol=0)
        assert torch.allclose(ours.by_kernel(), ours.restored(), rtol=2e-6, atol=0)
