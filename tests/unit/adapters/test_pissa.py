"""PiSSA: the split of the weights, its export on the original weights."""

import pytest
import torch

from tunewright.adapters import PiSSA
from tunewright.errors import BadInput
from tunewright.models.quantize import NF4
from tunewright.testing.models import tiny
from tunewright.testing.runs import attach, disturb, logits_of, tiny_policy
from tunewright.testing.tables import random_table

TABLE = random_table()


def attached(**options):
    policy = tiny_policy()
    return attach(PiSSA(**options), policy), tiny(), policy


@pytest.mark.parametrize("options", [{"alpha": 8}, {"alpha": 32}, {"rank_stabilized": True}, {"niter": 16}])
def test_the_pair_is_the_best_approximation_and_the_rest_what_is_left(options):
    made, plain, _ = attached(rank=8, **options)
    for name, layer in made.layers.items():
        weight = plain.get_submodule(name).weight.double()
        s = torch.linalg.svdvals(weight)
        pair = layer.scale * (layer.up @ layer.down).double()
        # By its error: where two singular values are close, the approximation itself is not unique.
        assert (weight - pair).norm().item() == pytest.approx(
            s[8:].norm().item(), rel=1e-3 if made.method.niter else 1e-5
        )
        assert torch.allclose(layer.base.weight + pair, weight, atol=1e-5)
        largest = torch.linalg.matrix_norm(layer.base.weight, 2).item()
        assert largest == pytest.approx(s[8].item(), rel=1e-2 if made.method.niter else 1e-4)
        assert torch.allclose(layer.up.norm(dim=0), layer.down.norm(dim=1), rtol=1e-4)


@pytest.mark.parametrize("rank_stabilized", [False, True])
@pytest.mark.parametrize("rank", [4, 12])
def test_the_exported_pair_has_twice_the_rank_or_the_smaller_side(rank, rank_stabilized):
    made, plain, policy = attached(rank=rank, rank_stabilized=rank_stabilized)
    disturb(made)
    tuned, export = logits_of(policy, TABLE), made.as_lora()
    for name, pair in export.pairs.items():
        weight = plain.get_submodule(name).weight
        assert pair.down.shape[0] == min(2 * rank, *weight.shape)
        scale = pair.alpha / pair.down.shape[0] ** (0.5 if rank_stabilized else 1)
        weight.data += scale * pair.up @ pair.down
    found = logits_of(tiny_policy(plain), TABLE)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(tuned, found, strict=True))


def test_quantizing_what_is_left_loses_less_than_quantizing_the_weight():
    u, _ = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    v, _ = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))
    layer = torch.nn.Linear(64, 64, bias=False)
    layer.weight.data = weight = u @ torch.diag(0.8 ** torch.arange(64.0)) @ v
    down, up = PiSSA().start(layer, 8, 1.0)
    stored = lambda matrix: NF4().store(matrix).restored()
    nuclear = lambda matrix: torch.linalg.matrix_norm(matrix, "nuc").item()
    assert nuclear(weight - stored(layer.weight.data) - up @ down) < nuclear(weight - stored(weight))


def test_the_same_split_whatever_the_seed():
    one, other = (attach(PiSSA(niter=2), tiny_policy(), seed=seed) for seed in (0, 9))
    assert all(torch.equal(one.layers[name].down, other.layers[name].down) for name in one.layers)


def test_a_quantized_weight_is_refused():
    model = tiny()
    NF4().apply(model)
    with pytest.raises(BadInput, match="quantized"):
        attach(PiSSA(), tiny_policy(model))
