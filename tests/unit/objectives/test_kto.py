"""KTO: its formula, TRL's numbers, the rows that give its baseline."""

import pytest
import torch
from trl_rows import BAD, GOOD, PROMPTS, assert_equals_trl, batch_of, trained_by_trl

from tunewright.data.answers import Answers
from tunewright.data.lines import FaultyRow
from tunewright.data.records import Record, Turn
from tunewright.objectives import KTO
from tunewright.optimize.optimizers import SGD
from tunewright.testing.objectives import assert_equals_literal
from tunewright.testing.runs import differs, disturb, table_for, tiny_loop
from tunewright.testing.tables import plan_of
from tunewright.train.loop import Settings


@pytest.mark.parametrize("method", [KTO(), KTO(beta=0.5, desirable=0.5, undesirable=2.0)])
def test_equals_its_formula(method):
    def formula(*every):
        judged, strange = every[::2], every[1::2]
        drift = max(0.0, sum((one.logp - one.reference_logp).item() for one in strange) / len(strange))
        total = 0.0
        for one in judged:
            gain = one.logp - one.reference_logp - drift
            weight = method.desirable if one.columns["label"] else method.undesirable
            sign = 1 if one.columns["label"] else -1
            total = total + weight * (1 - 1 / (1 + (-method.beta * sign * gain).exp()))
        return total, float(len(judged))

    assert_equals_literal(method, formula, together=8)


@pytest.mark.parametrize("shift", [0.02, 0.0])
def test_equals_trl(tmp_path, shift):
    trl = pytest.importorskip("trl")
    labels = [True, False, False, True]
    rows = [{"prompt": p, "completion": g if label else b, "label": label}
            for p, g, b, label in zip(PROMPTS, GOOD, BAD, labels, strict=True)]  # fmt: skip
    weights = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.75}
    made, found = trained_by_trl(trl.KTOTrainer, trl.KTOConfig, rows, tmp_path, **weights)
    with torch.no_grad():  # the drift is above zero in one case and cut off in the other
        made.model.lm_head.weight.add_(shift * torch.randn_like(made.model.lm_head.weight))
    parts = [[found[prefix + name] for name in ("input_ids", "attention_mask", "completion_mask")]
             for prefix in ("", "KL_")]  # fmt: skip
    given = found["label"].long().tolist()
    batch = batch_of(parts, {"label": given * 2, "mismatched": [0] * 4 + [1] * 4})
    assert_equals_trl(made, found, KTO(beta=0.3, desirable=1.5, undesirable=0.75), batch)


def record(prompt, answer, **more):
    return Record((Turn("user", prompt), Turn("assistant", answer)), "completion", **more)


def test_each_judged_answer_stands_beside_its_prompt_with_the_answer_of_the_row_before():
    answers = Answers.wanted(KTO().needs)
    one, other = record("a", "x", label=True), record("b", "y", label=False)
    (judged, told), (strange, marked) = answers.of(other, one)
    assert (judged, told) == (other, {"label": 0.0, "mismatched": 0.0})
    assert [turn.content for turn in strange.turns] == ["b", "x"]
    assert marked == {"label": 0.0, "mismatched": 1.0} and answers.together == 2


def test_a_pair_gives_two_judged_answers():
    pair = record("a", "x", rejected=(Turn("user", "a"), Turn("assistant", "z")))
    unit = Answers.wanted(KTO().needs).of(pair, record("b", "y", label=True))
    assert [(one.answer, columns["label"], columns["mismatched"]) for one, columns in unit] == [
        ("x", 1, 0), ("y", 1, 1), ("z", 0, 0), ("y", 0, 1)
    ]  # fmt: skip


def test_a_row_alone_has_no_mismatched_answer():
    alone = record("a", "x", label=True)
    with pytest.raises(FaultyRow, match="no other answer"):
        Answers.wanted(KTO().needs).of(alone, alone)


def test_the_baseline_is_that_of_the_step_however_it_is_cut():
    found = []
    for tokens in (24, 1024):
        loop = tiny_loop(
            {"objective": KTO(beta=0.5), "optimizer": SGD(lr=0.05)},
            settings=Settings(micro_batch_tokens=tokens, clip=None),
            plan=plan_of(table_for(KTO()), steps=3, tokens_per_step=200),
        )
        disturb(loop.attached)
        assert (len(loop.batches(0)) > 1) is (tokens == 24)
        loop.run()
        found.append(torch.cat([p.detach().flatten() for p in loop.attached.trained().values()]))
    assert differs(*found) < 1e-6
