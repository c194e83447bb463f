"""MixLoRA: the mixture, the balance, what neither may depend on."""

import pytest
import torch
from torch.nn import functional as F

from tunewright.adapters import LoRA, MixLoRA
from tunewright.adapters.mixtures._balance import ExpertBalance, balance
from tunewright.errors import BadInput
from tunewright.models.quantize.nf4 import NF4
from tunewright.objectives.preference.dpo import DPO
from tunewright.objectives.preference.kto import KTO
from tunewright.objectives.supervised.masked_thought import MaskedThought
from tunewright.optimize.optimizers.sgd import SGD
from tunewright.testing.models import tiny
from tunewright.testing.runs import (
    Steps,
    attach,
    differing_bits,
    differs,
    disturb,
    logits_of,
    table_for,
    tiny_loop,
    tiny_policy,
)  # fmt: skip
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.checkpoint import pack, unpack, write_folder
from tunewright.train.loop import Settings

TABLE = random_table()
SMALL = MixLoRA(num_experts=4, rank=4, dropout=0.0, router_std=0.5)


def apart(one, other):
    return max(differs(a, b) for a, b in zip(one, other, strict=True))


def changed(**options):
    return SMALL.model_copy(update=options)


def block_of(model):
    return model.model.layers[1].mlp


def test_any_router_starts_as_the_model():
    for architecture in ("llama", "gpt2", "gpt_neox", "phi", "gemma2"):
        policy = tiny_policy(tiny(architecture))
        before = logits_of(policy, TABLE)
        attach(changed(router_std=3.0), policy)
        assert apart(before, logits_of(policy, TABLE)) < 1e-6, architecture
    assert SMALL.neutral and not changed(renormalize=False).neutral


def test_a_token_is_the_weighted_sum_of_its_experts():
    model = tiny()
    plain = block_of(model)
    weights = {name: getattr(plain, f"{name}_proj").weight.detach() for name in ("gate", "up", "down")}
    made = attach(SMALL, tiny_policy(model))
    disturb(made, size=0.3)
    mixture, x = block_of(model), torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    routing = mixture.route(x.flatten(0, 1))
    assert torch.allclose(routing.weights.sum(-1), torch.ones(10))
    wanted = torch.zeros(10, 32)
    for n, token in enumerate(x.flatten(0, 1)):
        p = (mixture.router @ token).softmax(0)
        kept = p.argsort(descending=True)[:2]
        for i in kept:
            w = {}
            for name in weights:
                layer = getattr(mixture.base, f"{name}_proj")
                w[name] = weights[name] + 32.0 / 4 * layer.up[i] @ layer.down[i]
            h = w["down"] @ (F.silu(w["gate"] @ token) * (w["up"] @ token))
            wanted[n] += (p[i] / p[kept].sum() * h).detach()
    assert differs(wanted, mixture(x).detach().flatten(0, 1)) < 1e-5


def test_one_expert_is_lora_on_the_feed_forward_blocks():
    one, other = tiny_policy(), tiny_policy()
    mixed = attach(MixLoRA(num_experts=1, top_k=1, rank=4, dropout=0.0), one)
    disturb(mixed)
    plain = attach(LoRA(rank=4, alpha=32.0), other)
    state = {name.removesuffix(".0"): value for name, value in mixed.state().items() if "router" not in name}
    plain.load_state(state)
    assert apart(logits_of(one, TABLE), logits_of(other, TABLE)) < 1e-5


def test_the_switch_keeps_the_probability_as_weight():
    mixture = attach(changed(top_k=1, renormalize=False), tiny_policy()).mixtures["model.layers.0.mlp"]
    routing = mixture.route(torch.randn(6, 32))
    assert torch.equal(routing.weights[:, 0], routing.probabilities.max(-1).values)
    assert routing.weights.max() < 1


def test_the_entry_layers_run_once_for_all_experts():
    model = tiny()
    attach(SMALL, tiny_policy(model))
    inner, calls = block_of(model).base, {"gate_proj": 0, "up_proj": 0, "down_proj": 0}
    for name in calls:
        count = lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        getattr(inner, name).base.register_forward_hook(count)
    block_of(model)(torch.randn(1, 40, 32))
    assert calls == {"gate_proj": 1, "up_proj": 1, "down_proj": 4}


def test_an_even_router_has_balance_one_whatever_the_assignment():
    for shares in (torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.1, 0.2, 0.3, 0.4])):
        assert balance(shares, torch.full((4,), 0.25)).item() == pytest.approx(1.0)
    loop = tiny_loop({"adapter": changed(router_std=0.0), "objective": MaskedThought()}, steps=3)
    steps = Steps()
    loop.hooks.append(steps)
    loop.factor = lambda step, total: 0.0
    loop.run()
    assert [step.parts["balance"] for step in steps.done] == pytest.approx([2.0] * 3)  # one per block


def test_the_balance_by_hand():
    loop = tiny_loop({"adapter": changed(balance=0.5)}, table=TABLE, plan=plan_of(TABLE, 2, 10_000))
    made, steps = loop.attached, Steps()
    loop.hooks.append(steps)
    loop.factor = lambda step, total: 0.0
    loop.run()
    found = []
    for mixture in made.mixtures.values():
        p, f, weight = torch.zeros(4), torch.zeros(4), 0.0
        for index in range(len(TABLE)):
            span = slice(int(TABLE.starts[index]), int(TABLE.starts[index + 1]))
            seen = []
            handle = mixture.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0][0]))
            loop.policy.model(input_ids=torch.as_tensor(TABLE.ids[span]).long()[None])
            handle.remove()
            routing, own = mixture.route(seen[0]), float(TABLE.weights[span].sum())
            p += own * routing.probabilities.detach().mean(0)
            f += own * F.one_hot(routing.chosen, 4).float().mean((0, 1))
            weight += own
        found.append(balance(f / weight, p / weight).item())
    assert [step.parts["balance"] for step in steps.done] == pytest.approx([sum(found)] * 2, rel=1e-5)
    assert all(not hook.shares.requires_grad for hook in loop.hooks if isinstance(hook, ExpertBalance))


LAYOUTS = {
    "as it is": Settings(micro_batch_tokens=10_000),
    "small": Settings(micro_batch_tokens=16),
    "wider": Settings(micro_batch_tokens=64, width_multiple=16, pad=5),
    "packed": Settings(micro_batch_tokens=40, layout="packed"),
}


@pytest.mark.parametrize("objective", [None, DPO(), KTO(), MaskedThought()], ids=["sft", "dpo", "kto", "masked"])
def test_padding_packing_and_micro_batches_change_nothing(objective):
    found = {}
    parts = {
        "adapter": changed(balance=5.0),
        "optimizer": SGD(lr=0.1),
        **({"objective": objective} if objective else {}),
    }
    for name, settings in LAYOUTS.items():
        steps = Steps()
        table = table_for(objective) if objective else TABLE
        loop = tiny_loop(parts, table=table, plan=plan_of(table, 3, 60), settings=settings, hooks=[steps])
        loop.run()
        found[name] = torch.tensor([[s.loss, s.gradient_norm, s.parts["balance"]] for s in steps.done])
    assert {name: differs(found["small"], each) < 1e-5 for name, each in found.items()} == dict.fromkeys(LAYOUTS, True)


def test_the_balance_reaches_the_router_under_activation_checkpointing():
    found = []
    for again in (False, True):
        model = tiny()
        if again:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        steps = Steps()
        loop = tiny_loop({"adapter": changed(balance=5.0, dropout=0.1)}, model=model, table=TABLE, hooks=[steps])
        loop.run()
        found.append(torch.tensor([[s.loss, s.gradient_norm] for s in steps.done]))
    assert differs(*found) < 1e-6


def test_the_balance_evens_out_the_load():
    entropy = {}
    for weight in (0.0, 1.0):
        loop = tiny_loop({"adapter": changed(balance=weight, router_std=2.0)}, table=TABLE, steps=40)
        loop.run()
        counts = torch.zeros(4)
        for mixture in loop.attached.mixtures.values():
            mixture.seen = []
            logits_of(loop.policy, TABLE)
            counts += sum(F.one_hot(routing.chosen, 4).sum((0, 1)) for routing in mixture.seen)
            mixture.seen = None
        shares = counts / counts.sum()
        entropy[weight] = float(-(shares * shares.log()).sum())
    assert entropy[1.0] > entropy[0.0]


def test_resuming_equals_not_stopping(tmp_path):
    parts = {"adapter": changed(balance=5.0, dropout=0.1, jitter=0.1)}
    straight, first, second = (tiny_loop(parts, table=TABLE, steps=6) for _ in range(3))
    straight.run()
    first.advance(3)
    write_folder(tmp_path / "c", *pack(first))
    unpack(second, tmp_path / "c")
    second.run()
    assert not differing_bits(straight.attached.state(), second.attached.state())
    assert not straight.policy.listeners


def test_quantized_blocks_and_conv1d():
    for architecture in ("llama", "gpt2"):
        policy = tiny_policy(tiny(architecture))
        NF4().apply(policy.model)
        before = logits_of(policy, TABLE)
        made = attach(SMALL, policy)
        assert apart(before, logits_of(policy, TABLE)) < 1e-6
        disturb(made)
        assert apart(before, logits_of(policy, TABLE)) > 1e-3


def test_which_layers_are_chosen():
    made = attach(changed(attention_modules=("q_proj",), feed_forward=("*.1.mlp",)), tiny_policy())
    assert list(made.mixtures) == ["model.layers.1.mlp"] and len(made.experts) == 3
    assert list(made.layers) == [f"model.layers.{n}.self_attn.q_proj" for n in (0, 1)]
    assert not attach(changed(attention_modules=()), tiny_policy()).layers


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"feed_forward": ("ffn",)}, "no module is a feed-forward block"),
        ({"feed_forward": ("mlp.act_fn",)}, "has no linear layers"),
        ({"attention_modules": ("up_proj",)}, "belongs to a feed-forward block"),
        ({"rank": 17}, "at most 16"),
    ],
)
def test_refusals(options, says):
    model = tiny()
    modules = [type(m) for m in model.modules()]
    with pytest.raises(BadInput, match=says):
        changed(**options).attach(model)
    assert [type(m) for m in model.modules()] == modules


def test_it_cannot_be_merged():
    with pytest.raises(BadInput, match="depends on the token"):
        attach(SMALL, tiny_policy()).merge()
    with pytest.raises(ValueError, match="top_k"):
        MixLoRA(num_experts=2, top_k=3)
