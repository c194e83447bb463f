"""JSON values, with the keys that an object names twice."""

from __future__ import annotations

import json
from typing import Any


class Decoder:
    """Decodes JSON as the standard library does, and remembers a key that stands twice in one object.

    After each call `repeated` is such a key of the value just decoded (None: every key stands once).
    """

    def __init__(self) -> None:
        self.repeated: str | None = None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def whole(self, text: str) -> Any:
        """The value that is all of `text`. Raises `json.JSONDecodeError` or `RecursionError`."""
        self.repeated = None
        return self._decoder.decode(text)

    def first(self, text: str, at: int) -> tuple[Any, int]:
        """The value that begins at `at`, and where it ends. Raises `json.JSONDecodeError` or `RecursionError`."""
        self.repeated = None
        return self._decoder.raw_decode(text, at)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            self.repeated = next(name for name in names if names.count(name) > 1)
        return made
