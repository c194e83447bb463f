"""Tokenised sequences as memory-mapped arrays, with named columns per sequence and per token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """Sequences end to end in flat arrays.

    `ids` int32 [tokens]; `weights` float32 [tokens], the loss weight of predicting that token from those before it
    (the first token of a sequence cannot be predicted: weight 0); `starts` int64 [sequences + 1].
    `columns` holds one value per sequence; always there: `source` (index of the recipe's source), `file` (index into
    `files`), `line`, and `prompt` (tokens before the first trained one). `token_columns` holds one value per token.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    token_columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, int64 [sequences]."""
        lengths: NDArray[np.int64] = np.diff(self.starts)
        return lengths

    def where(self, index: int) -> str:
        """`FILE:LINE` of a sequence's record."""
        return f"{self.files[int(self.columns['file'][index])]}:{int(self.columns['line'][index])}"

    def save(self, folder: Path) -> None:
        """Writes one `.npy` file per array and `table.json` into a new folder."""
        folder.mkdir(parents=True)
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        (folder / "table.json").write_text(json.dumps({"files": self.files, "arrays": list(self._arrays())}))

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
        )

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {
            "ids": self.ids,
            "weights": self.weights,
            "starts": self.starts,
            **{f"sequence.{name}": column for name, column in self.columns.items()},
            **{f"token.{name}": column for name, column in self.token_columns.items()},
        }
