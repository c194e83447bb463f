"""The policy's values and gradients against computations written out in full."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tunewright import adapters
from tunewright.data.batches import collate
from tunewright.models import policy as policies
from tunewright.models.load import head_is_plain, packs
from tunewright.models.policy import Policy, cross_entropy
from tunewright.testing.models import ARCHITECTURES, SCALED_HEADS, tiny
from tunewright.testing.runs import attach, differs, layouts, tiny_policy
from tunewright.testing.tables import random_table

TABLE = random_table()
PACKS = {"llama": True, "qwen2": True, "mistral": True, "gemma2": True, "gpt2": True, "gpt_neox": True, "phi": True,
         "opt": False, "granite": True, "cohere": True}  # fmt: skip


def literal(model, batch):
    """-log softmax over full logits in float64, at the kept tokens of every row."""
    logits = model(input_ids=batch.ids, use_cache=False).logits.double()
    rows, cols = batch.kept
    logs = logits[rows, cols - 1] - logits[rows, cols - 1].exp().sum(-1, keepdim=True).log()
    return -logs[torch.arange(len(rows)), batch.ids[rows, cols]]


def plain_entropy(logits, targets, columns):
    """Cross-entropy without a gradient of its own."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def temperature(logits, targets, columns):
    """A function with a column, as no method of ours has it."""
    return columns["scale"] * F.cross_entropy(logits.float() / 2, targets, reduction="none")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_equal_a_literal_computation(architecture):
    policy = tiny_policy(tiny(architecture))
    [batch] = layouts(TABLE)["1 x all"]
    with torch.no_grad():
        assert differs(literal(policy.model.double(), batch), policy.float()(batch, cross_entropy).double()) < 1e-6
        assert torch.equal(policy.logprobs(batch), -policy(batch, cross_entropy))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_is_recognised(architecture):
    assert head_is_plain(tiny(architecture)) == (architecture not in (*SCALED_HEADS, "opt"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_is_the_one_transformers_computes(architecture):
    policy = tiny_policy(tiny(architecture))
    table = random_table(graded=False)
    [batch] = layouts(table)["1 x all"]
    labels = batch.ids.masked_fill(batch.weights == 0, -100)
    with torch.no_grad():
        theirs = policy.model(input_ids=batch.ids, labels=labels, use_cache=False).loss
        ours = policy(batch, cross_entropy).mean()
    assert torch.isclose(theirs, ours, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padded_single_and_packed_agree(architecture):
    policy = tiny_policy(tiny(architecture))
    longest = int(TABLE.lengths.max())
    assert packs(policy, longest) == PACKS[architecture]
    ways = {name: way for name, way in layouts(TABLE).items() if PACKS[architecture] or "packed" not in name}
    with torch.no_grad():
        found = {name: _by_token(policy, way) for name, way in ways.items()}
    apart = {name: differs(found["all x 1"], values) for name, values in found.items()}
    assert max(apart.values()) <= 1e-5, apart


def test_a_model_that_leaks_between_packed_records_is_told_apart():
    [packed] = layouts(TABLE)["packed"]
    policy = tiny_policy(tiny("opt"))
    with torch.no_grad():
        assert differs(_by_token(policy, layouts(TABLE)["all x 1"]), _by_token(policy, [packed])) > 1e-3


@pytest.mark.parametrize("function", [cross_entropy, plain_entropy, temperature], ids=["closed", "autograd", "column"])
@pytest.mark.parametrize("chunk", [1 << 22, 7 * 97], ids=["whole", "chunks"])
def test_gradient_through_a_frozen_head_equals_autograd(function, chunk, monkeypatch):
    monkeypatch.setattr(policies, "CHUNK_ELEMENTS", chunk)
    policy = tiny_policy()
    attached = attach(adapters.Full(train_modules=("embed_tokens", "mlp", "norm")), policy)
    trained = list(attached.trained().values())
    [batch] = layouts(TABLE)["1 x all"]
    rows, cols = batch.kept
    columns = {"scale": torch.linspace(0.5, 2.0, len(rows))}
    incoming = torch.linspace(-1.0, 1.0, len(rows))
    ours = torch.autograd.grad((policy(batch, function, columns) * incoming).sum(), trained)
    logits = policy.model(input_ids=batch.ids, use_cache=False).logits[rows, cols - 1]
    value = (function(logits, batch.ids[rows, cols], columns) * incoming).sum()
    theirs = torch.autograd.grad(value, trained)
    assert differs(_flat(theirs), _flat(ours)) <= 1e-5


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_gradient_through_a_trained_head_equals_autograd(architecture, monkeypatch):
    monkeypatch.setattr(policies, "CHUNK_ELEMENTS", 9 * 97)
    policy = tiny_policy(tiny(architecture))
    trained = list(attach(adapters.Full(), policy).trained().values())
    [batch] = layouts(TABLE)["1 x all"]
    weights = batch.weights[batch.kept]
    ours = torch.autograd.grad((policy(batch, cross_entropy) * weights).sum(), trained)
    theirs = torch.autograd.grad((literal(policy.model, batch) * weights).sum(), trained)
    assert differs(_flat(theirs), _flat(ours)) <= 1e-5


@pytest.mark.parametrize(("architecture", "trains"), [("llama", False), ("llama", True), ("granite", False)])
def test_the_head_sees_only_what_carries_weight(architecture, trains, monkeypatch):
    monkeypatch.setattr(policies, "CHUNK_ELEMENTS", 10 * 97)
    policy = tiny_policy(tiny(architecture))
    attach(adapters.Full(train_modules=("lm_head",) if trains else ("norm",)), policy)
    batch = collate(TABLE, [1])
    seen = []
    policy.head.register_forward_pre_hook(lambda module, args: seen.append(args[0].numel() // args[0].shape[-1]))
    policy(batch, cross_entropy)
    kept = int((batch.weights != 0).sum())
    assert sum(seen) == kept < batch.ids.numel()
    assert policy.plain_head is False or max(seen) <= 10


def test_values_stand_in_the_order_of_kept_tokens():
    policy = tiny_policy()
    [batch] = layouts(TABLE)["1 x all"]
    order = collate(TABLE, list(range(len(TABLE)))[::-1])
    with torch.no_grad():
        forward, backward = policy(batch, cross_entropy), policy(order, cross_entropy)
    counts = [int((TABLE.weights[a:b] != 0).sum()) for a, b in zip(TABLE.starts, TABLE.starts[1:], strict=False)]
    parts = forward.split(counts)
    assert torch.allclose(torch.cat(parts[::-1]), backward, atol=1e-5)


@pytest.mark.parametrize("trains", ["lm_head", "norm"])
def test_a_batch_without_weight_still_has_a_graph(trains):
    """Sharded processes must all run a backward pass, also the one whose turn is empty."""
    policy = tiny_policy()
    attached = attach(adapters.Full(train_modules=(trains,)), policy)
    [batch] = layouts(TABLE)["1 x all"]
    values = policy(replace(batch, weights=torch.zeros_like(batch.weights)), cross_entropy)
    assert values.shape == (0,) and values.dtype == torch.float32
    values.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in attached.trained().values())


def test_autocast_computes_in_bf16_and_answers_in_float32():
    policy = tiny_policy(tiny(dtype=torch.bfloat16))
    attach(adapters.Full(train_modules=("mlp",)), policy)
    [batch] = layouts(TABLE)["1 x all"]
    values = policy(batch, cross_entropy)
    assert values.dtype == torch.float32
    exact = literal(tiny().double(), batch)
    assert differs(exact, values.detach().double()) < 0.05
    values.sum().backward()
    mlp = policy.model.get_submodule("model.layers.0.mlp.down_proj").weight
    assert mlp.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_frozen_head_sees_few_numbers_of_rows_in_a_short_format(dtype):
    policy, seen = tiny_policy(tiny(dtype=dtype)), []
    attached = attach(adapters.LoRA(), policy)
    policy.head.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    found = {}
    for name in ("1 x all", "all x 1"):
        attached.model.zero_grad()
        values = [policy(batch, cross_entropy) for batch in layouts(TABLE)[name]]
        torch.cat(values).sum().backward()
        found[name] = torch.cat(values).detach(), policy.model.get_submodule("model.layers.0.mlp.up_proj").up.grad
    rounded = all(rows % policies.KERNEL_ROWS == 0 for rows in seen)
    assert rounded == (dtype == torch.bfloat16) and len(set(seen)) > 1
    for one, other in zip(*found.values(), strict=True):
        assert differs(one, other) < (2e-2 if rounded else 1e-5)


def test_closed_gradient_of_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = (30 * torch.randn(11, 97, generator=generator)).requires_grad_()
    targets = torch.randint(0, 97, (11,), generator=generator)
    values, gradient = cross_entropy.gradient(logits.detach().clone(), targets, {})
    wanted = plain_entropy(logits, targets, {})
    assert torch.allclose(values, wanted, rtol=1e-5, atol=1e-5)
    (autograd,) = torch.autograd.grad(wanted.sum(), logits)
    assert differs(autograd, gradient) < 1e-6


def test_reference_needs_an_adapter_and_gives_no_gradient():
    policy = Policy(tiny())
    with pytest.raises(RuntimeError, match="no reference"), policy.reference():
        pass
    attach(adapters.LoRA(), policy)
    with policy.reference() as reference:
        assert not reference.logprobs(collate(TABLE, [0])).requires_grad


@pytest.mark.parametrize("architecture", ["llama", "granite"])
def test_logits_and_hidden_states(architecture):
    policy = tiny_policy(tiny(architecture))
    [batch] = layouts(TABLE)["1 x all"]
    rows, cols = torch.tensor([0, 1, 1, 3]), torch.tensor([2, 0, 5, 2])
    with torch.no_grad():
        full = policy.model(input_ids=batch.ids, use_cache=False)
        assert torch.allclose(policy.logits(batch, rows, cols), full.logits[rows, cols], atol=1e-5)
        hidden = policy.hidden(batch)
    assert hidden.shape == (*batch.ids.shape, 32) and isinstance(policy.head, nn.Linear)


def _by_token(policy, way):
    """Values of all kept tokens in the order of the table."""
    found = {}
    for batch in way:
        rows, cols = batch.kept
        values = policy(batch, cross_entropy)
        for row, col, value in zip(rows.tolist(), cols.tolist(), values.tolist(), strict=True):
            inside = int(batch.sequence[row, col])
            found[int(batch.indices[inside]), int(batch.positions[row, col])] = value
    assert len(found) == int(np.count_nonzero(TABLE.weights))
    return torch.tensor([found[key] for key in sorted(found)])


def _flat(parts):
    return torch.cat([part.flatten() for part in parts])
