"""What every context promises."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from tunewright import catalog
from tunewright.data.batches import collate
from tunewright.errors import BadInput
from tunewright.models.context.base import Context
from tunewright.models.load import context_of
from tunewright.models.policy import Policy
from tunewright.testing.adapters import assert_equal
from tunewright.testing.models import tiny
from tunewright.testing.runs import (
    attach,
    bits,
    differing_bits,
    differs,
    extended,
    gradient,
    layouts,
    logits_of,
    tiny_loop,
    tiny_policy,
    usual_parts,
)
from tunewright.testing.tables import plan_of, random_table

TABLE = random_table((40, 90, 61, 100))
"""Rows that reach over several groups of a small group size."""


class ContextContract:
    """Tests of one context; a subclass gives the fixture `method`.

    `architectures` are those that a context must extend, or refuse with a reason before anything trains.
    """

    architectures = ("llama", "qwen2", "mistral", "gpt_neox", "phi", "granite", "cohere", "gpt2", "opt", "gemma2")

    def test_extends_or_refuses_every_architecture(self, method: Context) -> None:
        taken = []
        for architecture in self.architectures:
            model = tiny(architecture)
            try:
                longer = extended(method, model)
            except BadInput as fault:
                assert fault.field == "model.context" and fault.hint, fault
                continue
            taken.append(architecture)
            length = context_of(longer.config)
            assert length is not None and length > (context_of(model.config) or 0)
            with torch.no_grad():
                ids = torch.randint(3, 90, (1, length), generator=torch.Generator().manual_seed(0))
                assert torch.isfinite(longer(input_ids=ids).logits).all()
        assert "llama" in taken

    def test_weights_stay_as_they_are(self, method: Context) -> None:
        model = tiny()
        assert not differing_bits(bits(model), bits(extended(method, model)))

    def test_others_compute_the_same_from_the_configuration(self, method: Context) -> None:
        longer = extended(method, tiny())
        config = copy.deepcopy(longer.config)
        config._attn_implementation = "sdpa"
        plain = type(longer)(config).eval()
        plain.load_state_dict(longer.state_dict())
        assert_equal(logits_of(_policy(longer), TABLE), logits_of(_policy(plain), TABLE), 1e-5)

    def test_training_is_the_same_in_every_layout(self, method: Context) -> None:
        found = {}
        for name, batches in layouts(TABLE).items():
            if method.packs or not batches[0].packed:
                policy = tiny_policy(extended(method, tiny()))
                attached = attach(usual_parts()["adapter"], policy)  # type: ignore[arg-type]
                policy.train()
                found[name] = gradient(policy, attached, usual_parts()["objective"], batches)  # type: ignore[arg-type]
        first, loss = found.pop("1 x all")
        for name, (other, again) in found.items():
            assert differs(first, other) < 1e-4 and abs(loss - again) < 1e-5 * loss, name

    def test_no_token_sees_a_later_one(self, method: Context) -> None:
        policy = tiny_policy(extended(method, tiny()))
        for training in (True, False):
            policy.train(training)
            batch = collate(TABLE, [1])
            before = policy.hidden(batch)
            for at in (1, 37, 89):
                ids = batch.ids.clone()
                ids[0, at] = (ids[0, at] + 1) % 90 + 3
                after = policy.hidden(replace(batch, ids=ids))
                assert torch.allclose(before[:, :at], after[:, :at], atol=1e-5), (training, at)

    def test_trains_in_both_formats(self, method: Context) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            parts = {"optimizer": catalog.find("optimizer", "adamw")(lr=2e-2), "context": method}  # type: ignore[call-arg]
            plan = plan_of(TABLE, steps=20, tokens_per_step=10_000)
            loop = tiny_loop(parts, model=tiny(dtype=dtype), table=TABLE, plan=plan)
            first = loop.probe(1, 1.0)[0]
            last = loop.probe(19, 1.0)[-1]
            assert last < 0.95 * first

    def test_activation_checkpointing_changes_no_gradient(self, method: Context) -> None:
        found = []
        for again in (False, True):
            policy = tiny_policy(extended(method, tiny()))
            attached = attach(usual_parts()["adapter"], policy)  # type: ignore[arg-type]
            policy.train()
            if again:
                policy.model.gradient_checkpointing_enable({"use_reentrant": False})
            found.append(gradient(policy, attached, usual_parts()["objective"], layouts(TABLE)["1 x all"])[0])  # type: ignore[arg-type]
        assert differs(*found) <= 1e-6


def _policy(model: torch.nn.Module) -> Policy:
    return tiny_policy(model.eval())
