"""Masked thought: what is corrupted, how often, and that targets stay."""

import numpy as np
import pytest
import torch

from tunewright.data.batches import collate
from tunewright.data.table import Table
from tunewright.objectives import SFT, MaskedThought
from tunewright.objectives.supervised.masked_thought import MASKED
from tunewright.testing.models import VOCABULARY
from tunewright.testing.objectives import loss_of
from tunewright.testing.runs import attach, disturb, layouts, ready, table_for, tiny_policy, usual_parts


def large(rows=100, length=1250, prompt=250):
    return collate(
        Table(
            ids=np.full(rows * length, 7, dtype=np.int32),
            weights=np.ones(rows * length, dtype=np.float32),
            starts=np.arange(rows + 1) * length,
            columns={"prompt": np.full(rows, prompt), "source": np.zeros(rows, dtype=np.int64)},
        ),
        range(rows),
    )


@pytest.mark.parametrize("random", [True, False])
def test_the_share_of_changed_tokens(random):
    method = MaskedThought(replace_rate=float(random), warmup=0.0)
    batch = method.transform(large(), 0, 0, 10)
    read = method.corrupted(batch, 64)
    answer = batch.positions >= 250
    count = int(answer.sum())
    assert count == 100_000 and torch.equal(read[~answer], batch.ids[~answer])
    wanted = 0.4 * (1 - 1 / 64) if random else 0.4
    share = (read != batch.ids)[answer].float().mean().item()
    assert abs(share - wanted) < 3 * (wanted * (1 - wanted) / count) ** 0.5


def test_with_certainty_every_token_of_the_answer_is_drawn_anew_and_targets_stay():
    policy = tiny_policy()
    disturb(attach(usual_parts()["adapter"], policy))
    for method in (MaskedThought(p_max=1.0, warmup=0.0), MaskedThought(p_max=1.0, warmup=0.0, replace_rate=0.0)):
        [plain] = layouts(table_for(method))["padded further"]
        [batch] = ready(method, policy, [plain])
        read = method.corrupted(batch, VOCABULARY)
        prompt = plain.positions < plain.columns["prompt"][:, None]
        padding = plain.sequence < 0
        assert torch.equal(read[prompt | padding], plain.ids[prompt | padding])
        inside = ~prompt & ~padding
        if method.replace_rate:
            assert 0.9 < (read != plain.ids)[inside].float().mean() <= 1
        else:
            assert (read[inside] == 0).all()
        assert torch.equal(batch.ids, plain.ids) and torch.equal(batch.weights, plain.weights)
        double = policy.model(input_ids=read).logits.double().log_softmax(-1)
        rows, cols = plain.kept
        own = double[rows, cols - 1, plain.ids[rows, cols]]
        wanted = -(plain.weights[rows, cols] * own).sum()
        assert method.loss(policy, batch).total.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_without_chance_it_is_sft():
    (one, loss), (other, same) = loss_of(MaskedThought(p_max=0.0)), loss_of(SFT())
    assert loss == same and torch.equal(one, other)


def test_the_chance_rises_and_stays():
    method = MaskedThought()
    assert [method.chance(step, 300) for step in (0, 100, 200, 299)] == pytest.approx([0.0, 0.2, 0.4, 0.4])


def test_each_step_is_corrupted_anew_and_prompts_in_their_stead_if_asked():
    batch = large(rows=2)
    one, other = (MaskedThought().transform(batch, 0, step, 10).token_columns[MASKED] for step in (7, 8))
    assert not torch.equal(one, other)
    control = MaskedThought(scope="prompt").transform(batch, 0, 7, 10).token_columns[MASKED]
    assert control[:, :250].any() and not control[:, 250:].any()
