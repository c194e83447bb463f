"""Fixtures: a run's renderings and answers, kept and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluate_models import pairs, policy, subject, tokenizer

from tunewright.data.records import Record, Turn
from tunewright.data.templates import Renderer
from tunewright.errors import BadInput
from tunewright.evaluate.fixtures import FILE, answers, keep, replay
from tunewright.recipe import Reading

BASE, TUNED = 0, 1


def chats(count: int) -> list[Record]:
    return [
        Record((Turn("user", f"w{40 + n} w{41 + n}"), Turn("assistant", f"w{60 + n}")), "chat", file="c", line=n)
        for n in range(count)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    records = chats(30)
    keep(tmp_path, subject(records, policy(seed=TUNED)), answers(subject(records, policy(seed=BASE))))
    return tmp_path


def test_replay_of_the_same_model(run: Path) -> None:
    stored = json.loads((run / FILE).read_text())
    assert len(stored["examples"]) == len(stored["canaries"]) == 20
    assert all(canary["base"] != canary["tuned"] for canary in stored["canaries"])
    assert replay(run, policy(seed=TUNED), tokenizer(), (Renderer(tokenizer(), Reading()),)) == (20, 20, 0)


def test_changed_template_stops_with_both_sides(run: Path) -> None:
    other = tokenizer()
    other.chat_template = "{% for m in messages %}{{ 'w90 ' + m.content + ' ' }}{% endfor %}"
    with pytest.raises(
        BadInput, match=r"example 1 \(c:0\) is not what it was.*found 'w90 w40.*expected '<unk> w40"
    ) as told:
        replay(run, policy(seed=TUNED), tokenizer(), (Renderer(other, Reading()),))
    assert told.value.status == 2


def test_changed_generation_prompt_stops(run: Path) -> None:
    stored = json.loads((run / FILE).read_text())
    stored["canaries"][3]["prompt"].append(5)
    (run / FILE).write_text(json.dumps(stored))
    with pytest.raises(BadInput, match="the prompt of canary 4"):
        replay(run, policy(seed=TUNED), tokenizer(), (Renderer(tokenizer(), Reading()),))


def test_base_model_is_recognised(run: Path) -> None:
    with pytest.raises(BadInput, match="the base model answers: each of the 20 prompts"):
        replay(run, policy(seed=BASE), tokenizer(), (Renderer(tokenizer(), Reading()),))


def test_third_model_stops_at_the_first_answer(run: Path) -> None:
    with pytest.raises(BadInput, match="the answer to canary 1 is not what it was in the run"):
        replay(run, policy(seed=2), tokenizer(), (Renderer(tokenizer(), Reading()),))


def test_shorter_formats_count_moved_answers(run: Path) -> None:
    other = policy(seed=TUNED)
    other.model.bfloat16()
    found = replay(run, other, tokenizer(), (Renderer(tokenizer(), Reading()),))
    assert found.examples == 20 and 0 <= found.moved < 20


def test_tuning_without_effect_is_no_fault(tmp_path: Path) -> None:
    records = pairs(5)
    own = subject(records, policy(seed=BASE))
    keep(tmp_path, own, answers(own))
    assert replay(tmp_path, policy(seed=BASE), tokenizer(), own.rows.renderers) == (5, 5, 0)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a finished run"):
        replay(tmp_path, policy(), tokenizer(), ())
    (tmp_path / FILE).write_text("{")
    with pytest.raises(BadInput, match="not valid JSON"):
        replay(tmp_path, policy(), tokenizer(), ())
