"""Tokenised sequences as memory-mapped arrays, with named columns per sequence and per token."""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.data.spelling import Spelled, Speller


@dataclass(frozen=True)
class Table:
    """Sequences end to end in flat arrays.

    `ids` int32 [tokens]; `weights` float32 [tokens], the loss weight of predicting that token from those before it
    (the first token of a sequence cannot be predicted: weight 0); `starts` int64 [sequences + 1].
    `columns` holds one value per sequence; always there: `source` (index of the recipe's source), `file` (index into
    `files`), `line`, and `prompt` (tokens before the first trained one). `token_columns` holds one value per token. What
    methods ask for by name stands beside them: int64 or float64 per sequence, float32 per token. Each `together`
    sequences in a row are a unit (a pair or a group of answers): drawn together, and computed in one micro-batch.
    `speller` tells the text of token ids; `spelled` asks it.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    token_columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    together: int = 1
    speller: Speller | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, int64 [sequences]."""
        lengths: NDArray[np.int64] = np.diff(self.starts)
        return lengths

    def spelled(self, ids: Sequence[int]) -> Spelled:
        """The text of token ids, and the characters of each. Raises `ValueError` for a table without a tokenizer."""
        if self.speller is None:
            raise ValueError("nothing tells the text of these tokens: the table was made without a tokenizer")
        return self.speller(ids)

    def where(self, index: int) -> str:
        """`FILE:LINE` of a sequence's record."""
        return f"{self.files[int(self.columns['file'][index])]}:{int(self.columns['line'][index])}"

    def taken(self, indices: NDArray[np.int64]) -> Table:
        """A table of the sequences `indices`, in that order, held in memory."""
        spans = [np.arange(self.starts[i], self.starts[i + 1]) for i in indices]
        flat = np.concatenate(spans)
        return Table(
            self.ids[flat],
            self.weights[flat],
            np.concatenate([[0], np.cumsum([len(span) for span in spans])]),
            {name: column[indices] for name, column in self.columns.items()},
            {name: column[flat] for name, column in self.token_columns.items()},
            self.files,
        )

    def save(self, folder: Path) -> None:
        """Writes one `.npy` file per array and `table.json` into a new folder."""
        folder.mkdir(parents=True)
        for name, column in self._arrays().items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)
        described = {"files": self.files, "arrays": list(self._arrays()), "together": self.together}
        (folder / "table.json").write_text(json.dumps(described))

    @staticmethod
    def load(folder: Path) -> Table:
        """Opens a saved table; the arrays stay on disk until read."""
        described = json.loads((folder / "table.json").read_text())
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in described["arrays"]}
        per = {
            kind: {n.removeprefix(f"{kind}."): a for n, a in arrays.items() if n.startswith(f"{kind}.")}
            for kind in ("sequence", "token")
        }
        return Table(
            arrays["ids"],
            arrays["weights"],
            arrays["starts"],
            per["sequence"],
            per["token"],
            tuple(described["files"]),
            described["together"],
        )

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {
            "ids": self.ids,
            "weights": self.weights,
            "starts": self.starts,
            **{f"sequence.{name}": column for name, column in self.columns.items()},
            **{f"token.{name}": column for name, column in self.token_columns.items()},
        }


ALWAYS = ("source", "file", "line", "prompt")
"""The columns of every table that is prepared."""


class TableWriter:
    """Writes a table of any length to a new folder, one sequence after the other, with little memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._columns = {name: _Growing(folder / f"{name}.npy", kind) for name, kind in _KINDS.items()}
        self._columns["starts"].extend([0])
        self._files: dict[str, int] = {}
        self._tokens = 0

    def add(
        self,
        ids: Sequence[int],
        weights: Sequence[float],
        *,
        source: int,
        file: str,
        line: int,
        prompt: int,
        columns: Mapping[str, float] = {},
        token_columns: Mapping[str, Sequence[float]] = {},
    ) -> None:
        """Adds one sequence; the names in `columns` and `token_columns` are the same for all of a table."""
        self._tokens += len(ids)
        is_first = not self._files
        known = self._files.setdefault(file, len(self._files))
        values = {
            "ids": ids, "weights": weights, "starts": (self._tokens,), "sequence.source": (source,),
            "sequence.file": (known,), "sequence.line": (line,), "sequence.prompt": (prompt,),
        }  # fmt: skip
        values |= {f"sequence.{name}": (value,) for name, value in columns.items()}
        values |= {f"token.{name}": each for name, each in token_columns.items()}
        if is_first:
            for name in values.keys() - self._columns.keys():
                kind = "d" if name.startswith("sequence.") else "f"
                self._columns[name] = _Growing(self._folder / f"{name}.npy", kind)
        for name, column in self._columns.items():
            column.extend(values[name])

    def close(self, whole: Collection[str] = (), together: int = 1) -> None:
        """Completes the files, as `Table.load` reads them; the sequence columns named `whole` become int64."""
        for column in self._columns.values():
            column.close()
        for name in whole:
            path = self._folder / f"sequence.{name}.npy"
            if path.exists():
                np.save(path, np.load(path).astype(np.int64))
        described = {"files": list(self._files), "arrays": list(self._columns), "together": together}
        (self._folder / "table.json").write_text(json.dumps(described))


_KINDS = {
    "ids": "i", "weights": "f", "starts": "q", "sequence.source": "i", "sequence.file": "i", "sequence.line": "q",
    "sequence.prompt": "i",
}  # fmt: skip


class _Growing:
    """A one-dimensional `.npy` file that grows; the header, which has room for any length, is completed at the end."""

    def __init__(self, path: Path, kind: str) -> None:
        self._held: array[Any] = array(kind)
        self._count = 0
        self._stream = path.open("wb")
        self._header()

    def extend(self, values: Sequence[Any]) -> None:
        self._held.extend(values)
        if len(self._held) >= 2**18:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._stream.seek(0)
        self._header()
        self._stream.close()

    def _flush(self) -> None:
        self._held.tofile(self._stream)
        self._count += len(self._held)
        self._held = array(self._held.typecode)

    def _header(self) -> None:
        kind = np.lib.format.dtype_to_descr(np.dtype(self._held.typecode))
        np.lib.format.write_array_header_1_0(
            self._stream, {"descr": kind, "fortran_order": False, "shape": (self._count,)}
        )
