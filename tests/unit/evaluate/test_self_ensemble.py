"""One model under several prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from evaluate_models import pair, pairs, subject

from tunewright.data.demonstrations import COLUMN, preceded
from tunewright.data.records import Record
from tunewright.errors import BadInput
from tunewright.evaluate.base import Scores
from tunewright.evaluate.metrics.ensembles import combined
from tunewright.evaluate.prompts import formats
from tunewright.evaluate.tasks import SelfEnsemble
from tunewright.evaluate.tasks import self_ensemble as module

LABELS = ["positive", "negative", "neutral"]


def classified(count: int, start: int = 0) -> list[Record]:
    made = []
    for n in range(start, start + count):
        label = LABELS[(7 * n + n // 3) % 3]
        made.append(pair(f"w{40 + n % 50} w{50 + n % 7} Label :", f" {label}", n + 1, label=label))
    return made


ROWS, POOL = classified(20), classified(12, 30)


def scored(rows: list[Record] = ROWS, pool: list[Record] = POOL, **options: Any) -> Scores:
    return SelfEnsemble(**{"members": 4, "fit": 0.0, **options}).score(subject(rows, pool=pool))


def test_the_score_is_that_of_the_combined_members(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Record]] = []
    found: list[np.ndarray] = []
    compute = module.Choices.probabilities

    def spied(self: Any, subject: Any, rows: Any, records: Any) -> Any:
        asked.append(list(records))
        made = compute(self, subject, rows, records)
        found.append(np.stack(made))
        return made

    monkeypatch.setattr(module.Choices, "probabilities", spied)
    for how in ("mean_prob", "max_prob", "majority"):
        asked.clear(), found.clear()
        scores = scored(combine=how, ensemble="ex_pr")
        whole = combined(found, how)  # type: ignore[arg-type]
        assert scores.confidences == pytest.approx(whole.max(-1))
        truths = np.array([sorted(LABELS).index(str(one.label)) for one in ROWS])
        assert (scores.values == (whole.argmax(-1) == truths)).all()
    forms = formats(4)
    for number, records in enumerate(asked):
        for record, own in zip(records, ROWS, strict=True):
            assert len(record.turns) == 8 and record.answer == own.answer
            assert record.turns[-2].content == forms[number].put(own.turns[0].content)
            for asking, answer in zip(record.turns[:-2:2], record.turns[1:-2:2], strict=True):
                assert any(
                    asking.content == forms[number].put(one.turns[0].content) and answer.content.startswith(one.answer)
                    for one in POOL
                )
    assert len({str(records[0].turns[:-2]) for records in asked}) == 4, "every member has demonstrations of its own"


def test_formats_alone_show_no_demonstrations(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scored(ensemble="pr").confidences == pytest.approx(scored(ensemble="pr", pool=[]).confidences)
    assert SelfEnsemble(ensemble="pr").pool == 0 < SelfEnsemble().pool


def test_demonstrations_that_rows_hold_are_replaced() -> None:
    held = [preceded(one, POOL[:2], "verbatim") for one in ROWS]
    assert held[0].columns[COLUMN] == 4
    assert scored(held, ensemble="ex").confidences == pytest.approx(scored(ensemble="ex").confidences)
    kept = scored(held, ensemble="pr")
    assert not np.allclose(kept.confidences, scored(ensemble="pr").confidences), "formats alone keep them"


def test_single_members_stand_beside_the_ensemble() -> None:
    scores = scored(members=6)
    table, reliability = scores.grids
    assert list(table.rows) == ["single members", "mean_prob", "max_prob", "majority", "batch"]
    of = {name: dict(zip(table.columns, row, strict=True)) for name, row in table.rows.items()}
    assert of["mean_prob"]["accuracy"] == pytest.approx(scores.score) and of["mean_prob"]["members"] == 6
    assert of["mean_prob"]["NLL"] <= of["single members"]["NLL"]
    further = {name: one.values.mean() for name, one in scores.further.items()}
    assert further["accuracy of single members"] == pytest.approx(of["single members"]["accuracy"])
    assert further["brier"] == pytest.approx(of["mean_prob"]["Brier"])
    assert further["brier of single members"] == pytest.approx(of["single members"]["Brier"])
    assert further["-ln p(right)"] == pytest.approx(of["mean_prob"]["NLL"])
    assert sum(row[0] for row in reliability.rows.values()) == 20
    assert all(0 <= row["ECE"] <= row["MCE"] <= 1 for row in of.values())


def test_the_front_holds_what_nothing_else_beats() -> None:
    columns = lambda accuracy, error: [accuracy, None, error]
    found = module._fronted(
        {
            "single members": columns(0.8, 0.2), "mean_prob": columns(0.9, 0.1), "max_prob": columns(0.9, 0.15),
            "majority": columns(0.7, 0.05), "temperature": columns(0.8, 0.1),
        },
        5,
    )  # fmt: skip
    assert {name: row[-1] for name, row in found.items()} == {
        "single members": 0, "mean_prob": 1, "max_prob": 0, "majority": 1, "temperature": 1,
    }  # fmt: skip
    assert [row[0] for row in found.values()] == [1, 5, 5, 5, 1]


def test_rows_of_the_fit_are_not_scored() -> None:
    scores = scored(fit=0.25, ensemble="pr")
    assert len(scores.values) == 15 and "5 rows" in scores.notes[0] and "temperature" in scores.grids[0].rows
    assert set(scores.ids) < {one.where for one in ROWS}
    assert "temperature" not in scored(fit=0.01).grids[0].rows


def test_rows_with_choices_of_their_own() -> None:
    others = {one: LABELS[n - 1] for n, one in enumerate(LABELS)}
    rows = [replace(one, label=None, columns={"choices": [one.label, others[str(one.label)]]}) for one in ROWS]
    table = scored(rows, ensemble="pr").grids[0]
    assert "batch" not in table.rows
    assert all(row[table.columns.index("macro F1")] is None for row in table.rows.values())


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(BadInput, match="free answers"):
        scored(pairs(12))
    with pytest.raises(BadInput, match="no training row"):
        scored(pool=[])
    with pytest.raises(BadInput, match="context"):
        scored(classified(12), classified(40, 30), k=40, ensemble="ex")
