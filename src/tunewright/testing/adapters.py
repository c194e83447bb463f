"""What every adapter promises."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from tunewright.adapters.base import Adapter, Attached
from tunewright.errors import BadInput
from tunewright.models.policy import Policy
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

ROOM = {"top_fraction": 1.0, "ratio_down": 0.5, "density": 0.3, "reduction": 4, "num_virtual_tokens": 40}
"""Sizes whose defaults are meant for layers of thousands: of tiny ones they leave a handful of numbers, which cannot
learn a batch."""

FEW = 128
"""Fewer numbers than these learn how often tokens come, but not a batch by heart."""


class AdapterContract:
    """Tests of one adapter; a subclass gives the fixture `method`.

    `architectures` are those on which attaching, merging and detaching are tried: one with `nn.Linear`, one with
    `Conv1D`.
    """

    architectures = ("llama", "gpt2")

    def test_output_is_unchanged_at_attach(self, method: Adapter) -> None:
        if not method.neutral:
            raise SkipTest("this adapter changes the output at attach")
        for architecture in self.architectures:
            policy = tiny_policy(tiny(architecture))
            before = logits_of(policy, TABLE)
            attach(_on(method, policy), policy)
            assert_equal(before, logits_of(policy, TABLE), 1e-5)

    def test_declares_exactly_what_requires_gradients(self, method: Adapter) -> None:
        policy = tiny_policy()
        trained = attach(method, policy).trained()
        required = {id(p) for p in policy.model.parameters() if p.requires_grad}
        assert trained, "the adapter declares no trained parameter"
        assert required == {id(p) for p in trained.values()}
        assert all(p.dtype == torch.float32 for p in trained.values())

    def test_joins_the_mode_of_the_model(self, method: Adapter) -> None:
        for training in (False, True):
            policy = tiny_policy(tiny().train(training))
            attach(method, policy)
            assert {module.training for module in policy.model.modules()} == {training}

    def test_names_are_the_same_on_every_attach(self, method: Adapter) -> None:
        shapes = []
        for _ in range(2):
            policy = tiny_policy()
            shapes.append({name: tuple(p.shape) for name, p in attach(method, policy).trained().items()})
        assert shapes[0] == shapes[1]

    def test_first_values_are_a_function_of_the_seed(self, method: Adapter) -> None:
        states = [attach(method, tiny_policy(), seed=5).state() for _ in range(2)]
        assert not differing_bits(*states)

    def test_training_changes_the_declared_parameters_and_nothing_else(self, method: Adapter) -> None:
        loop = tiny_loop({"adapter": method}, table=TABLE, steps=5)
        trained = loop.attached.trained()
        ids = {id(p) for p in trained.values()}
        frozen = {n: p for n, p in loop.policy.named_parameters() if id(p) not in ids}
        buffers = dict(loop.policy.named_buffers())
        before = {n: v.detach().clone() for n, v in (frozen | buffers).items()}
        start = {n: p.detach().clone() for n, p in trained.items()}
        loop.run()
        assert not differing_bits(before, frozen | buffers)
        assert all(p.grad is None for p in frozen.values()), "a frozen parameter received a gradient"
        still = [name for name, p in trained.items() if torch.equal(start[name], p)]
        assert not still, f"declared as trained but never moved: {still}"

    def test_loss_falls_on_one_batch(self, method: Adapter) -> None:
        first, last = _overfit(method, tiny())
        assert last < (0.9 if _few(method) else 0.7) * first, f"the loss went from {first:.3f} to {last:.3f}"

    def test_bf16_base_trains_in_float32(self, method: Adapter) -> None:
        model = tiny(dtype=torch.bfloat16)
        before = bits(model)
        first, last = _overfit(method, model, check=_frozen_stay_bf16)
        assert last < (0.9 if _few(method) else 0.8) * first, f"the loss went from {first:.3f} to {last:.3f}"
        policy = tiny_policy(model := tiny(dtype=torch.bfloat16))
        attached = attach(method, policy)
        disturb(attached)
        attached.detach()
        assert not differing_bits(before, bits(model))

    def test_state_on_a_fresh_attach_gives_equal_logits(self, method: Adapter) -> None:
        one, other = tiny_policy(), tiny_policy()
        attached = attach(method, one)
        disturb(attached)
        state = {name: value.clone() for name, value in attached.state().items()}
        attach(method, other, seed=9).load_state(state)
        assert_equal(logits_of(one, TABLE), logits_of(other, TABLE), 0.0)

    def test_state_of_another_shape_is_refused(self, method: Adapter) -> None:
        attached = attach(method, tiny_policy())
        state = {name: value.clone() for name, value in attached.state().items()}
        name = next(iter(state))
        for wrong in ({**state, name: state[name][..., :-1]}, {**state, "more": state[name]}, {}):
            before = {n: v.clone() for n, v in attached.state().items()}
            try:
                attached.load_state(wrong)
            except BadInput:
                assert not differing_bits(before, attached.state()), "a refused state was loaded in part"
            else:
                raise AssertionError("a state that does not fit was accepted")

    def test_merge_computes_the_same_and_unmerge_restores(self, method: Adapter) -> None:
        for architecture in self.architectures:
            policy = tiny_policy(tiny(architecture))
            attached = attach(_on(method, policy), policy)
            disturb(attached)
            before, tuned = bits(policy.model), logits_of(policy, TABLE)
            try:
                attached.merge()
            except BadInput as error:
                raise SkipTest(str(error)) from None
            assert_equal(tuned, logits_of(policy, TABLE), 1e-5)
            attached.merge()
            assert_equal(tuned, logits_of(policy, TABLE), 1e-5)
            attached.unmerge()
            assert not differing_bits(before, bits(policy.model))
            assert_equal(tuned, logits_of(policy, TABLE), 0.0)

    def test_detach_restores_bit_for_bit(self, method: Adapter) -> None:
        for architecture in self.architectures:
            model = tiny(architecture)
            before, modules = bits(model), _modules(model)
            policy = tiny_policy(model)
            for merged in (False, True):
                attached = attach(_on(method, policy), policy)
                disturb(attached)
                if merged:
                    _try_merge(attached)
                attached.detach()
                assert not differing_bits(before, bits(model))
                assert _modules(model) == modules, "modules were left behind"
                assert not any(p.requires_grad for p in model.parameters())

    def test_disabled_is_the_model_before(self, method: Adapter) -> None:
        policy = tiny_policy()
        base = logits_of(policy, TABLE)
        attached = attach(method, policy)
        disturb(attached)
        tuned = logits_of(policy, TABLE)
        assert max(differs(b, t) for b, t in zip(base, tuned, strict=True)) > 1e-4
        with policy.reference():
            assert_equal(base, logits_of(policy, TABLE), 0.0)
        assert_equal(tuned, logits_of(policy, TABLE), 0.0)
        try:
            with attached.disabled():
                assert not attached.enabled
                raise KeyError
        except KeyError:
            assert_equal(tuned, logits_of(policy, TABLE), 0.0)

    def test_extra_modules_train_with_tied_embeddings(self, method: Adapter) -> None:
        if "train_modules" not in type(method).model_fields:
            raise SkipTest("this adapter trains no extra modules")
        model = tiny(tie_word_embeddings=True)
        before = bits(model)
        extra = method.model_copy(update={"train_modules": ("embed_tokens", "lm_head", "norm")})
        loop = tiny_loop({"adapter": extra}, model=model, table=TABLE, steps=4)
        table = model.get_input_embeddings().weight
        assert table is model.get_output_embeddings().weight, "the tie was broken"
        assert sum(p is table for p in loop.attached.trained().values()) == 1
        loop.run()
        assert table is model.get_output_embeddings().weight
        assert not torch.equal(table, before["model.embed_tokens.weight"])
        loop.attached.detach()
        assert not differing_bits(before, bits(model))

    def test_gradient_is_the_same_in_every_layout(self, method: Adapter) -> None:
        policy = tiny_policy()
        attached = attach(_roomy(method), policy)
        disturb(attached)
        objective: Any = usual_parts()["objective"]
        ways = {n: way for n, way in layouts(TABLE).items() if method.packs or not any(b.packed for b in way)}
        found = {name: gradient(policy, attached, objective, way)[0] for name, way in ways.items()}
        apart = {name: differs(found["1 x all"], vector) for name, vector in found.items()}
        assert max(apart.values()) <= 1e-5, apart

    def test_activation_checkpointing_changes_no_gradient(self, method: Adapter) -> None:
        vectors = []
        for again in (False, True):
            policy = tiny_policy()
            attached = attach(method, policy)
            disturb(attached)
            policy.train()
            if again:
                policy.model.gradient_checkpointing_enable({"use_reentrant": False})
            objective: Any = usual_parts()["objective"]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                vectors.append(gradient(policy, attached, objective, layouts(TABLE)["1 x all"])[0])
        assert differs(*vectors) <= 1e-6

    def test_low_rank_pairs_are_the_update(self, method: Adapter) -> None:
        for architecture in self.architectures:
            policy = tiny_policy(tiny(architecture))
            attached = attach(_on(method, policy), policy)
            disturb(attached)
            export = attached.as_lora()
            if export is None:
                raise SkipTest("the update is not a set of low-rank pairs")
            tuned = logits_of(policy, TABLE)
            plain = tiny(architecture)
            _apply(plain, export.pairs, export.whole, export.rank_stabilized, export.transposed)
            assert_equal(tuned, logits_of(tiny_policy(plain), TABLE), 1e-5)


def assert_equal(one: list[Tensor], other: list[Tensor], within: float) -> None:
    """Raises `AssertionError` unless the tensors agree to `within`, relatively; 0 asks for equal bits."""
    if within == 0.0:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), "bits differ"
    apart = max(differs(a, b) for a, b in zip(one, other, strict=True))
    assert apart <= within, f"differs by {apart:.2e}"


def _on(method: Adapter, policy: Policy) -> Adapter:
    """The method with targets every architecture has."""
    if "target_modules" in type(method).model_fields:
        return method.model_copy(update={"target_modules": "all-linear"})
    return method


def _overfit(method: Adapter, model: Any, check: Any = None) -> tuple[float, float]:
    rate = {"optimizer": usual_parts()["optimizer"].model_copy(update={"lr": 2e-2})}
    method = _roomy(method)
    plan = plan_of(TABLE, steps=40, tokens_per_step=10_000)
    loop = tiny_loop({"adapter": method, **rate}, model=model, table=TABLE, plan=plan)
    loop.run()
    if check:
        check(loop.policy, loop.attached)
    losses = []
    objective: Any = loop.objective
    for off in (True, False):
        with loop.attached.disabled() if off else torch.no_grad(), torch.no_grad():
            found = [objective.loss(loop.policy, batch) for batch in layouts(TABLE)["1 x all"]]
        losses.append(sum(f.total.item() for f in found) / sum(float(f.weight) for f in found))
    return losses[0], losses[1]


def _roomy(method: Adapter) -> Adapter:
    return method.model_copy(update={name: ROOM[name] for name in ROOM if name in type(method).model_fields})


def _few(method: Adapter) -> bool:
    return sum(p.numel() for p in attach(_roomy(method), tiny_policy()).trained().values()) < FEW


def _frozen_stay_bf16(policy: Policy, attached: Attached) -> None:
    trained = {id(p) for p in attached.trained().values()}
    assert all(p.dtype == (torch.float32 if id(p) in trained else torch.bfloat16) for p in policy.parameters())


def _modules(model: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(module) for name, module in model.named_modules()}


def _try_merge(attached: Attached) -> None:
    try:
        attached.merge()
    except BadInput:
        return


def _apply(model: Any, pairs: Any, whole: Any, stabilized: bool, transposed: bool) -> None:
    """W + alpha / r (or sqrt r) B A, written out."""
    with torch.no_grad():
        for name, value in whole.items():
            model.get_parameter(name).copy_(value)
        for name, pair in pairs.items():
            rank = pair.down.shape[0]
            update = (pair.alpha / (rank**0.5 if stabilized else rank)) * (pair.up.double() @ pair.down.double())
            weight = model.get_submodule(name).weight
            weight.copy_(weight.double() + (update.T if transposed else update))
