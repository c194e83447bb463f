"""Splits, duplicates, the pretraining stream and the retention texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice

import pytest

from tunewright import nanoworld
from tunewright.nanoworld import phrasings, world

PRINT_A_BIT_OF_EVERYTHING = """
import json
from itertools import islice
from tunewright import nanoworld
rows = [row for name in nanoworld.skills() for row in nanoworld.rows(name, "tuning", 8, seed=11)]
rows += [*islice(nanoworld.corpus(11), 100), *nanoworld.retention(9, 11)]
rows += [fact.value for fact in nanoworld.world.facts(known=False)]
print(json.dumps(rows))
"""


def test_another_process_with_another_string_hash_draws_the_same() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PRINT_A_BIT_OF_EVERYTHING],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    here = [row for name in nanoworld.skills() for row in nanoworld.rows(name, "tuning", 8, seed=11)]
    assert json.loads(outputs[0])[: len(here)] == here


def test_importing_the_world_does_not_import_torch() -> None:
    code = "import sys; from tunewright import nanoworld; nanoworld.skills(); sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.parametrize("name", list(nanoworld.skills()))
def test_splits_share_no_prompt_and_hold_no_duplicate(name: str) -> None:
    prompts = {split: [nanoworld.prompt(row) for row in nanoworld.rows(name, split, 40)] for split in nanoworld.SPLITS}
    every = [prompt for split in prompts.values() for prompt in split]
    assert len(set(every)) == len(every) == 160
    for split, found in prompts.items():
        assert {nanoworld.split_of(prompt) for prompt in found} == {split}


def test_seeds_differ_and_a_longer_list_begins_with_the_shorter() -> None:
    twenty = list(nanoworld.rows("word_problems", "train", 20, seed=1))
    assert twenty == list(nanoworld.rows("word_problems", "train", 20, seed=1))
    assert twenty[:7] == list(nanoworld.rows("word_problems", "train", 7, seed=1))
    assert twenty != list(nanoworld.rows("word_problems", "train", 20, seed=2))
    assert [row["level"] for row in twenty[:5]] == [1, 2, 3, 4, 1]


def test_wrong_questions_are_answered_with_what_is_right() -> None:
    with pytest.raises(ValueError, match="found 'validation', expected one of pretrain, train, tuning, test"):
        next(nanoworld.rows("facts", "validation", 1))
    with pytest.raises(ValueError, match="found 'maths', expected one of arithmetic"):
        next(nanoworld.rows("maths", "test", 1))
    with pytest.raises(ValueError, match="found 9, expected one of"):
        next(nanoworld.rows("facts", "test", 1, level=9))
    with pytest.raises(ValueError, match=r"found \d+ different prompts in the split test, expected 100000"):
        list(nanoworld.rows("arithmetic", "test", 100_000, level=1))


def test_every_row_of_the_corpus_can_be_computed_alone() -> None:
    stream = list(islice(nanoworld.corpus(5), 60))
    assert list(islice(nanoworld.corpus(5, start=50), 10)) == stream[50:]
    assert stream != list(islice(nanoworld.corpus(6), 60))


def test_the_corpus_keeps_to_its_table_and_to_its_split() -> None:
    stream = list(islice(nanoworld.corpus(0), 4000))
    assert sum(share.per_mille for share in nanoworld.MIXTURE.values()) == 1000
    for kind, share in nanoworld.MIXTURE.items():
        some = [row for row in stream if row["skill"] == kind]
        assert abs(len(some) / len(stream) - share.per_mille / 1000) < 0.02
        assert {row["level"] for row in some} <= set(share.levels)
    assert {nanoworld.split_of(nanoworld.prompt(row)) for row in stream} == {"pretrain"}


def test_the_corpus_never_states_an_unknown_fact() -> None:
    """For each unknown fact, none of its sentences and no answer to it stands in the stream."""
    told = "\n".join(_whole(row) for row in islice(nanoworld.corpus(0), 4000))
    unknown = world.facts(known=False)
    assert 0.15 < len(unknown) / len(world.facts()) < 0.25
    known_hits = sum(phrasings.answer(fact) in told for fact in world.facts(known=True))
    assert known_hits > 500
    for fact in unknown:
        assert not any(phrasings.state(fact, wording) in told for wording in phrasings.STATED[fact.relation])


def test_retention_is_new_text_about_known_things() -> None:
    texts = list(nanoworld.retention(60, seed=1))
    assert texts != list(nanoworld.retention(60, seed=2))
    told = {_whole(row) for row in islice(nanoworld.corpus(0), 2000)}
    assert not told & {row["text"] for row in texts}
    whole = "\n".join(row["text"] for row in texts)
    for fact in world.facts(known=False):
        assert not any(phrasings.state(fact, wording) in whole for wording in phrasings.STATED[fact.relation])


def test_the_world_is_as_large_as_promised_and_unambiguous() -> None:
    assert len({one.name for one in world.places()}) == 60
    assert len({one.name for one in world.people()}) == 300
    assert all(world.place(person.home) for person in world.people())
    assert set(world.facts(known=True)) | set(world.facts(known=False)) == set(world.facts())
    for relation, wordings in phrasings.STATED.items():
        assert len(set(wordings)) == len(wordings)
        assert all("{n}" in wording for wording in phrasings.ASKED[relation])


def _whole(row: nanoworld.Row) -> str:
    return row["text"] if "text" in row else nanoworld.prompt(row) + nanoworld.reply(row)
