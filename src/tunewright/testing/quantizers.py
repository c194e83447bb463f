"""What every quantizer promises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tunewright.adapters.base import Adapter, Attached
from tunewright.errors import BadInput
from tunewright.models.layers import linear_layers
from tunewright.models.policy import Policy
from tunewright.models.quantize._layer import QuantizedLinear
from tunewright.models.quantize.base import Quantizer
from tunewright.testing.adapters import assert_equal
from tunewright.testing.models import tiny
from tunewright.testing.runs import (
    attach,
    bits,
    differing_bits,
    differs,
    disturb,
    gradient,
    layouts,
    logits_of,
    tiny_loop,
    tiny_policy,
    usual_parts,
)
from tunewright.testing.tables import plan_of, random_table

TABLE = random_table()


class QuantizerContract:
    """Tests of one quantizer; a subclass gives the fixture `method`.

    `architectures` are those on which layers are replaced: one with `nn.Linear`, one with `Conv1D` and biases.
    """

    architectures = ("llama", "gpt2")

    def test_computes_with_the_restored_weight_forward_and_backward(self, method: Quantizer) -> None:
        for architecture in self.architectures:
            for name, layer in linear_layers(tiny(architecture)).items():
                made = method.replaced(layer)
                x = torch.randn(3, 5, made.in_features, requires_grad=True)
                out = made(x)
                weight = made.stored.restored()
                wanted = x.detach() @ weight.T + (0 if made.bias is None else made.bias)
                assert torch.allclose(out, wanted, atol=1e-5), name
                out.sum().backward()
                assert x.grad is not None
                assert torch.allclose(x.grad, weight.sum(0).expand_as(x), atol=1e-4), name

    def test_comes_close_to_the_weight_in_fewer_bytes(self, method: Quantizer) -> None:
        weight = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
        stored = method.store(weight)
        assert stored.restored().shape == weight.shape and stored.restored().dtype == torch.float32
        assert differs(weight, _with_offer(method, weight)) < 0.25
        assert stored.bytes < 0.5 * 2 * weight.numel()

    def test_zeros_and_odd_shapes_are_restored(self, method: Quantizer) -> None:
        assert torch.equal(method.store(torch.zeros(7, 33)).restored(), torch.zeros(7, 33))
        weight = torch.randn(33, 47, generator=torch.Generator().manual_seed(0))
        assert differs(weight, _with_offer(method, weight)) < 0.25

    def test_leaves_embeddings_head_and_norms(self, method: Quantizer) -> None:
        model, plain = tiny(), bits(tiny())
        method.apply(model)
        found = bits(model)
        left = {name for name in plain if name in found}
        assert left == {name for name in plain if "_proj" not in name}
        assert not differing_bits({name: plain[name] for name in left}, {name: found[name] for name in left})

    def test_stored_form_loads_into_a_fresh_model(self, method: Quantizer) -> None:
        one, other = _quantized(method), _quantized(method, tiny(seed=3))
        other.model.load_state_dict(one.model.state_dict())
        assert_equal(logits_of(one, TABLE), logits_of(other, TABLE), 0.0)

    def test_adapter_trains_and_comes_off(self, method: Quantizer) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            policy = _quantized(method, tiny(dtype=dtype))
            before, base = bits(policy.model), logits_of(policy, TABLE)
            parts = {"adapter": _lora(method), "optimizer": usual_parts()["optimizer"].model_copy(update={"lr": 2e-2})}
            plan = plan_of(TABLE, steps=20, tokens_per_step=10_000)
            loop = tiny_loop(parts, model=policy.model, table=TABLE, plan=plan)
            first = _loss(loop)
            loop.run()
            assert _loss(loop) < 0.9 * first
            with loop.attached.disabled():
                assert_equal(base, logits_of(policy, TABLE), 0.0)
            loop.attached.detach()
            assert not differing_bits(before, bits(policy.model))

    def test_merging_is_refused_and_exporting_works(self, method: Quantizer) -> None:
        policy = _quantized(method)
        restored = _restored(policy.model)
        attached = _attached(method, policy)
        disturb(attached)
        before = bits(policy.model)
        try:
            attached.merge()
        except BadInput as error:
            assert "quantized" in str(error)
        else:
            raise AssertionError("an update was merged into quantized weights")
        assert not differing_bits(before, bits(policy.model))
        export = attached.as_lora()
        assert export is not None
        for name, pair in export.pairs.items():
            weight = restored.get_submodule(name).weight
            with torch.no_grad():
                weight.add_(pair.alpha / pair.down.shape[0] * (pair.up @ pair.down))
        assert_equal(logits_of(policy, TABLE), logits_of(tiny_policy(restored), TABLE), 1e-5)

    def test_activation_checkpointing_changes_no_gradient(self, method: Quantizer) -> None:
        found = []
        for again in (False, True):
            policy = _quantized(method)
            attached = _attached(method, policy)
            disturb(attached)
            policy.train()
            if again:
                policy.model.gradient_checkpointing_enable({"use_reentrant": False})
            objective: Any = usual_parts()["objective"]
            found.append(gradient(policy, attached, objective, layouts(TABLE)["1 x all"])[0])
        assert differs(*found) <= 1e-6

    def test_nothing_of_the_base_requires_gradients(self, method: Quantizer) -> None:
        policy = _quantized(method)
        trained = _attached(method, policy).trained()
        assert {id(p) for p in policy.model.parameters() if p.requires_grad} == {id(p) for p in trained.values()}


def _with_offer(method: Quantizer, weight: Tensor) -> Tensor:
    """What an adapter that takes up the offer begins with."""
    stored = method.store(weight)
    offer = method.offer(weight, stored)
    return stored.restored() + (offer[0] @ offer[1] if offer else 0.0)


def _quantized(method: Quantizer, model: Any = None) -> Policy:
    policy = tiny_policy(model)
    method.apply(policy.model)
    return policy


def _lora(method: Quantizer) -> Adapter:
    made: Any = usual_parts()["adapter"]
    return made.model_copy(update={"rank": getattr(method, "rank", 4) or 4})


def _attached(method: Quantizer, policy: Policy) -> Attached:
    return attach(_lora(method), policy)


def _restored(model: Any) -> Any:
    """A plain model with the weights that the quantized one computes with."""
    plain = tiny()
    for name, layer in linear_layers(model).items():
        assert isinstance(layer, QuantizedLinear)
        plain.get_submodule(name).weight.data = layer.weight
    return plain


def _loss(loop: Any) -> float:
    with torch.no_grad():
        found = [loop.objective.loss(loop.policy, batch) for batch in layouts(TABLE)["1 x all"]]
    return float(sum(f.total.item() for f in found) / sum(float(f.weight) for f in found))
