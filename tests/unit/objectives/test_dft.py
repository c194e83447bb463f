"""DFT: its formula, its gradient, TRL's numbers."""

import pytest
import torch
from trl_rows import GOOD, PROMPTS, batch_of, trained_by_trl

from tunewright.models.policy import Policy
from tunewright.objectives import DFT
from tunewright.objectives.supervised._weighted import weighted_by_itself
from tunewright.testing.objectives import assert_equals_literal


def formula(seen):
    chances = seen.logits[:-1].softmax(-1)[torch.arange(len(seen.ids) - 1), seen.ids[1:]]
    return (seen.weights[1:] * chances.detach() * -chances.log()).sum(), seen.weight


def test_equals_its_formula():
    assert_equals_literal(DFT(), formula)


def test_gradient_is_that_of_minus_the_probability():
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([0, 3, 10, 3, 5, 1])
    chances = logits.softmax(-1)[torch.arange(6), targets]
    (wanted,) = torch.autograd.grad(-chances.sum(), logits)
    onehot = torch.nn.functional.one_hot(targets, 11)
    for found in (
        weighted_by_itself.gradient(logits.detach(), targets, {})[1],
        torch.autograd.grad(weighted_by_itself(logits, targets, {}).sum(), logits)[0],
        chances.detach()[:, None] * (logits.detach().softmax(-1) - onehot),
    ):
        assert torch.allclose(found, wanted, atol=1e-7)


def test_equals_trl(tmp_path):
    trl = pytest.importorskip("trl")
    rows = [{"prompt": p, "completion": c} for p, c in zip(PROMPTS, GOOD, strict=True)]
    made, found = trained_by_trl(trl.SFTTrainer, trl.SFTConfig, rows, tmp_path, reference=False, loss_type="dft")
    answer = (found["labels"] != -100).long()
    batch = batch_of([[found["input_ids"], found["attention_mask"], answer]], {})
    loss = DFT().loss(Policy(made.model), batch)
    theirs = made.compute_loss(made.model, found)
    assert (loss.total / loss.weight).item() == pytest.approx(theirs.item(), rel=1e-5)
