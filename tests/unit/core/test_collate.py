"""Sequences as tensors: padded and packed."""

from dataclasses import replace

import numpy as np
import torch

from tunewright.data.batches import collate
from tunewright.testing.tables import random_table

TABLE = random_table((5, 3, 4))


def part(index, column=TABLE.ids):
    return column[TABLE.starts[index] : TABLE.starts[index + 1]].tolist()


def test_padded():
    batch = collate(TABLE, [1, 0], pad=7)
    assert batch.ids.tolist() == [[*part(1), 7, 7], part(0)]
    assert batch.weights.tolist() == [[*part(1, TABLE.weights), 0.0, 0.0], part(0, TABLE.weights)]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert batch.sequence.tolist() == [[0, 0, 0, -1, -1], [1] * 5]
    assert batch.indices.tolist() == [1, 0] and not batch.packed and batch.tokens == 8


def test_packed():
    batch = collate(TABLE, [2, 0], packed=True)
    assert batch.ids.tolist() == [part(2) + part(0)]
    assert batch.weights.tolist() == [part(2, TABLE.weights) + part(0, TABLE.weights)]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4]]
    assert batch.sequence.tolist() == [[0] * 4 + [1] * 5]
    assert batch.packed and batch.tokens == 9


def test_kept_tokens_are_those_with_weight_sequences_in_order():
    weights = np.zeros_like(TABLE.weights)
    weights[[2, 4, 6, 9]] = [1.0, 0.5, 2.0, -1.0]
    table = replace(TABLE, weights=weights)
    rows, cols = collate(table, [0, 1, 2]).kept
    assert (rows.tolist(), cols.tolist()) == ([0, 0, 1, 2], [2, 4, 1, 1])
    rows, cols = collate(table, [0, 1, 2], packed=True).kept
    assert (rows.tolist(), cols.tolist()) == ([0] * 4, [2, 4, 6, 9])


def test_a_token_equal_to_the_padding_is_no_padding():
    batch = collate(TABLE, [0, 1], pad=int(TABLE.ids[4]))
    assert batch.tokens == 8 and int((batch.weights[0] != 0).sum()) == int(np.count_nonzero(TABLE.weights[:5]))


def test_columns_follow_their_sequences_and_tokens():
    table = replace(
        TABLE,
        columns={**TABLE.columns, "score": np.asarray([0.5, 1.5, 2.5]), "flag": np.asarray([1, 0, 1])},
        token_columns={"old": np.arange(12, dtype=np.float32), "segment": np.arange(12)},
    )
    batch = collate(table, [2, 0])
    assert batch.columns["score"].tolist() == [2.5, 0.5] and batch.columns["score"].dtype == torch.float32
    assert batch.columns["flag"].dtype == torch.int64 and batch.columns["line"].tolist() == [3, 1]
    assert batch.token_columns["old"].tolist() == [[8, 9, 10, 11, 0], [0, 1, 2, 3, 4]]
    assert batch.token_columns["segment"].dtype == torch.int64
    packed = collate(table, [2, 0], packed=True)
    assert packed.token_columns["old"].tolist() == [[8, 9, 10, 11, 0, 1, 2, 3, 4]]


def test_some_sequences_of_a_batch():
    table = replace(TABLE, columns={**TABLE.columns, "score": np.asarray([0.5, 1.5, 2.5])},
                    token_columns={"old": np.arange(12, dtype=np.float32)})  # fmt: skip
    for packed in (False, True):
        found = collate(table, [0, 1, 2], packed).only(torch.tensor([True, False, True]))
        wanted = collate(table, [0, 2], packed)
        for name in ("ids", "positions", "weights", "sequence", "indices"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name
        assert found.columns["score"].tolist() == [0.5, 2.5]
        assert torch.equal(found.token_columns["old"], wanted.token_columns["old"])


def test_none_of_the_sequences_of_a_batch_weighs_nothing():
    for packed in (False, True):
        batch = collate(TABLE, [0, 1], packed)
        blank = replace(batch, sequence=torch.full_like(batch.sequence, -1), weights=torch.zeros_like(batch.weights))
        found = blank.only(torch.tensor([True, False]))
        assert found.ids.numel() and not found.weights.any() and len(found.indices) == 1
        assert not (batch.only(torch.tensor([False, False])).weights).any()


def test_moving_keeps_everything():
    batch = collate(TABLE, [0, 1])
    moved = batch.to("cpu")
    assert torch.equal(moved.ids, batch.ids) and moved.columns.keys() == batch.columns.keys()


def test_a_table_on_disk_collates_alike(tmp_path):
    TABLE.save(tmp_path / "t")
    one, other = collate(TABLE, [0, 2]), collate(type(TABLE).load(tmp_path / "t"), [0, 2])
    assert torch.equal(one.ids, other.ids) and torch.equal(one.weights, other.weights)
