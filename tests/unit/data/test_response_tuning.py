"""Responses learned without what was asked."""

from __future__ import annotations

from format_rows import completed, prepared, read_rows

from tunewright.data.templates import Renderer
from tunewright.recipe import Reading

ROWS = [
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Where?"},
                  {"role": "assistant", "content": "Here."}, {"role": "user", "content": "When?"},
                  {"role": "assistant", "content": "Now."}]},
    {"instruction": "Add.", "input": "2, 2", "output": "4"},
    {"prompt": "Two and two is", "completion": "four"},
    {"question": "Who?", "answer": "Nobody"},
    {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
]  # fmt: skip


def test_user_turns_are_empty_and_answers_as_they_were(tokenizer):
    read = read_rows("response_tuning", ROWS)
    silent = [one for each in completed("response_tuning", read) for one in each]
    renderer = Renderer(tokenizer, Reading())
    for before, after in zip(read, silent, strict=True):
        assert {turn.content for turn in after.turns if turn.role == "user"} == {""}
        assert before.style == after.style == "chat"
        others = [[turn for turn in record.turns if turn.role != "user"] for record in (before, after)]
        assert others[0] == others[1]
        one, other = renderer.render(before), renderer.render(after)
        assert one.trained == other.trained
        trained = [[i for i, w in zip(r.ids, r.weights, strict=True) if w] for r in (one, other)]
        assert trained[0] == trained[1]
        assert renderer.encoder.eos in trained[1]


def test_held_out_rows_keep_what_was_asked():
    read = read_rows("response_tuning", ROWS)
    assert completed("response_tuning", read, "eval") == [[record] for record in read]


def test_rows_are_held_out_and_counted_by_what_was_asked(tmp_path, tokenizer):
    rows = [{"question": f"Question number {n}?", "answer": "Yes" if n % 2 else "No"} for n in range(40)]
    data = prepared(tmp_path, tokenizer, [*rows, rows[0]], format="response_tuning", split=0.25)
    assert sum(report.duplicates for report in data.sources) == 1
    assert len(data.train) + len(data.eval) == 40 and 0 < len(data.eval) < 40
    train, held = (tokenizer.decode(table.ids) for table in (data.train, data.eval))
    assert "Question" not in train and held.count("Question") == len(data.eval)
    assert {record.prompt[0].content for record in data.eval_records} < {row["question"] for row in rows}
