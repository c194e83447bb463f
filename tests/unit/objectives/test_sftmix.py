"""SFTMix: its formula, its special cases, and how rows are paired."""

import numpy as np
import pytest
import torch

from tunewright.data.batches import collate
from tunewright.objectives import SFT, SFTMix
from tunewright.objectives.supervised.sftmix import SHARE, _between
from tunewright.testing.objectives import assert_equals_literal, loss_of
from tunewright.testing.runs import differs, layouts, table_for, tiny_policy
from tunewright.testing.tables import random_table

METHOD = SFTMix(mu=0.7)


def test_equals_its_formula():
    shares = {}
    for batch in layouts(table_for(METHOD))["all x 1"]:
        moved = METHOD.transform(batch, 0, 3, 4)
        shares |= {int(index): s.item() for index, s in zip(moved.indices, moved.columns[SHARE], strict=True)}

    def formula(*every):
        plain = -sum(one.logp for one in every)
        weight = sum(one.weight for one in every)
        mixtures = []
        for number in range(0, len(every), 2):
            sides = every[number : number + 2]
            kept = [torch.nonzero(one.weights)[:, 0] for one in sides]
            count = min(map(len, kept))
            states = [one.hidden[k[:count] - 1] for one, k in zip(sides, kept, strict=True)]
            share = shares[number]
            log = sides[0].head(share * states[0] + (1 - share) * states[1]).log_softmax(-1)
            own, other = (log[torch.arange(count), one.ids[k[:count]]] for one, k in zip(sides, kept, strict=True))
            mixtures.append(-(share * own + (1 - share) * other).mean())
        return plain + 0.7 * weight * sum(mixtures) / len(mixtures), weight

    assert_equals_literal(METHOD, formula, together=8)


def test_without_mixtures_it_is_sft_on_the_same_batches():
    method = SFTMix(mu=0.0)
    (one, loss), (other, same) = loss_of(method), loss_of(SFT(), like=method)
    assert loss == pytest.approx(same, rel=1e-6) and differs(one, other) < 1e-5


def test_all_of_the_confident_row_is_the_likelihood_of_its_first_tokens():
    policy = tiny_policy()
    [batch] = layouts(table_for(METHOD))["1 x all"]
    moved = METHOD.transform(batch, 0, 3, 4)
    moved.columns[SHARE][:] = 1.0
    mix = METHOD.loss(policy, moved).total - SFT().loss(policy, moved).total
    logp, number = policy.logprobs(batch), batch.sequence[batch.kept]
    means = []
    for pair in range(4):
        own, other = (logp[number == 2 * pair + side] for side in (0, 1))
        means.append(-own[: min(len(own), len(other))].mean())
    wanted = 0.7 * batch.weights.sum() * sum(means) / 4
    assert mix.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_loss_of_a_mixture_is_linear_in_its_labels():
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.arange(6), torch.tensor([3, 1, 10, 3, 0, 2])
    at = lambda share: _between.gradient(logits, ours, {"other": theirs, "share": torch.full((6,), share)})
    for mixed, one, other in zip(at(0.3), at(1.0), at(0.0), strict=True):
        assert torch.allclose(mixed, 0.3 * one + 0.7 * other, atol=1e-6)


@pytest.mark.parametrize("count", [8, 7])
@pytest.mark.parametrize("equal", [False, True])
def test_halves_differ_by_one_row_at_most_and_every_row_is_there_once(count, equal):
    table = random_table(list(range(5, 5 + count)), columns={"confidence"})
    if equal:
        np.asarray(table.columns["confidence"])[:] = -2.0
    made = METHOD.arrange(table, 0)
    lines, confidence = np.asarray(made.columns["line"]), np.asarray(made.columns["confidence"])
    with_weight = np.add.reduceat(made.weights, made.starts[:-1]) > 0
    assert sorted(lines[with_weight]) == list(range(1, count + 1)) and made.together == 2
    sizes = with_weight[::2].sum(), with_weight[1::2].sum()
    assert sizes == ((count + 1) // 2, count // 2)
    assert confidence[::2].min() >= confidence[1::2][with_weight[1::2]].max()
    if equal:
        assert sorted(lines[::2]) == list(range(1, (count + 1) // 2 + 1))


def test_shares_are_drawn_from_their_distribution():
    table = SFTMix(split="random").arrange(random_table([5] * 4000), 0)
    batch = SFTMix(split="random").transform(collate(table, range(4000)), 0, 0, 1)
    shares = batch.columns[SHARE]
    assert torch.equal(shares[::2], shares[1::2])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(0.125, abs=0.01)  # 1 / (4 (2a + 1)), a = 1/2
