"""Alignment over wordings: its formula, its special cases, how rows travel, what is refused."""

import json

import pytest
import torch

from tunewright.adapters import LoRA, PrefixTuning
from tunewright.data.answers import Answers
from tunewright.data.batches import collate
from tunewright.data.prepare import prepare
from tunewright.errors import BadInput
from tunewright.objectives import SFT, InstructionAlignment
from tunewright.recipe import Recipe
from tunewright.testing.models import tiny_tokenizer
from tunewright.testing.objectives import assert_equals_literal, loss_of
from tunewright.testing.runs import attach, disturb, gradient, layouts, table_for, tiny_policy
from tunewright.testing.tables import random_table

ROWS = [
    {"prompt": f"add {k} to it: ", "completion": f"{k} it is", "reference_prompt": f"{k} + it = "} for k in range(40)
]


def rows_of(folder, rows, **data):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe.of(
        model="unused", data={"train": [{"path": str(path)}], "cache": False, **data}, objective=InstructionAlignment()
    )
    return prepare(recipe, tiny_tokenizer()).train


def formula_of(method):
    def formula(reworded, reference):
        heavy, twin = reworded.weights[1:] != 0, reference.weights[1:] != 0
        own = reworded.logits[:-1].log_softmax(-1)[heavy]
        other = reference.reference[:-1].log_softmax(-1)[twin].detach()
        one, two = (other, own) if method.direction == "forward" else (own, other)
        away = (one.exp() * (one - two)).sum(-1)
        likelihood = own[torch.arange(len(own)), reworded.ids[1:][heavy]]
        weights = reworded.weights[1:][heavy]
        return (weights * (method.lam * away - likelihood)).sum(), float(weights.sum())

    return formula


@pytest.mark.parametrize("method", [InstructionAlignment(), InstructionAlignment(lam=2.0, direction="reverse")])
def test_equals_its_formula(method):
    assert_equals_literal(method, formula_of(method))


@pytest.mark.parametrize("adapter", [LoRA(rank=4), PrefixTuning()])
def test_without_divergence_it_is_plain_tuning_on_the_rows_as_they_are(adapter):
    policy = tiny_policy()
    attached = attach(adapter, policy)
    disturb(attached)
    batches = layouts(table_for(InstructionAlignment()))["1 x all"]
    plain = [batch.only(batch.columns["reworded"] == 1) for batch in batches]
    found, wanted = (
        gradient(policy, attached, InstructionAlignment(lam=0.0), batches),
        gradient(policy, attached, SFT(), plain),
    )
    assert torch.equal(found[0], wanted[0]) and found[1] == wanted[1]
    assert not torch.equal(found[0], gradient(policy, attached, InstructionAlignment(), batches)[0])


def same_wordings():
    """Units of two equal sequences."""
    table = random_table([9] * 6, answers=Answers("wordings"))
    for column in (table.ids, table.weights):
        column.reshape(3, 2, 9)[:, 1] = column.reshape(3, 2, 9)[:, 0]
    return collate(table, range(6))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("adapter", [LoRA(rank=4), PrefixTuning()])
def test_one_wording_twice_with_the_adapter_off_has_no_divergence(adapter, direction):
    policy = tiny_policy()
    attached = attach(adapter, policy)
    disturb(attached)
    batch, method = same_wordings(), InstructionAlignment(lam=1.0, direction=direction)
    plain = InstructionAlignment(lam=0.0)
    divergence = lambda: (method.loss(policy, batch).total - plain.loss(policy, batch).total).item()
    assert divergence() > 1e-2
    with attached.disabled(), torch.no_grad():
        # The adapter is off already, and stays so after the reference is read.
        policy.set_reference(torch.no_grad)
        assert abs(divergence()) < 1e-5


def test_the_gradient_is_that_of_the_reworded_reading_alone():
    policy = tiny_policy()
    attached = attach(LoRA(rank=4), policy)
    disturb(attached)
    batch = same_wordings()
    loss = InstructionAlignment().loss(policy, batch)
    total, weight = loss.per_sequence
    assert total[1::2].abs().sum() == 0 and weight[1::2].sum() == 0 and (weight[::2] > 0).all()


def test_the_default_is_the_papers_and_the_special_case_moves_the_loss():
    assert InstructionAlignment().lam == 0.8
    assert loss_of(InstructionAlignment())[1] > loss_of(InstructionAlignment(lam=0.0))[1]


def test_rows_travel_two_by_two(tmp_path):
    tokenizer, table = tiny_tokenizer(), rows_of(tmp_path, ROWS)
    texts = [tokenizer.decode(table.ids[a:b]) for a, b in zip(table.starts, table.starts[1:], strict=False)]
    assert table.together == 2 and table.columns["reworded"].tolist() == [1, 0] * (len(table) // 2)
    for own, other, line in zip(texts[::2], texts[1::2], table.columns["line"][::2], strict=True):
        assert own.startswith(f"add {line - 1} to it: {line - 1} it is")
        assert other.startswith(f"{line - 1} + it = {line - 1} it is")
    assert InstructionAlignment().arrange(table, 0) is table


def test_messages_keep_what_stands_before_the_last_turn(tmp_path):
    said = lambda role, content: {"role": role, "content": content}
    before = [said("user", "hi"), said("assistant", "yes")]
    rows = [
        {"messages": [*before, said("user", f"add {k}"), said("assistant", "2")], "reference_prompt": "one more"}
        for k in range(40)
    ]
    table = rows_of(tmp_path, rows, template="default")
    found = tiny_tokenizer().decode(table.ids[table.starts[1] : table.starts[2]])
    assert "hi" in found and "one more" in found and "add" not in found


@pytest.mark.parametrize("row", [{}, {"reference_prompt": 3}, {"reference_prompt": ""}])
def test_a_row_without_a_reference_wording_is_refused(tmp_path, row):
    rows = [*ROWS, {"prompt": "2 more", "completion": " 3", **row}]
    with pytest.raises(BadInput, match="no reference wording") as caught:
        rows_of(tmp_path, rows)
    assert "rows.jsonl" in str(caught.value) and "41" in str(caught.value) and "reference_prompt" in str(caught.value)


def test_answers_that_are_other_tokens_are_refused(tmp_path):
    long = {"prompt": "a", "completion": "b" * 60, "reference_prompt": "a" * 20}
    table = rows_of(tmp_path, [*ROWS, long], max_length=40, truncation="right")
    with pytest.raises(BadInput, match="not the same tokens") as caught:
        InstructionAlignment().arrange(table, 0)
    assert "rows.jsonl:41" in str(caught.value)
