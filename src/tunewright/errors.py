"""The faults a user can cause or meet, each with the exit status it ends in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class Fault(Exception):
    """A fault told in one message, without a traceback; `status` is the exit status of the command."""

    status = 1


class BadInput(Fault):
    """Input that cannot be used: what was found, what was expected, where, and what to do.

    The message reads `FILE:LINE: field 'FIELD': MESSAGE; found F, expected E. HINT`, each part only
    where it is known.
    """

    status = 2

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        found: object = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message, self.file, self.line, self.field = message, file, line, field
        self.found, self.expected, self.hint = found, expected, hint
        where = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        named = f"field '{field}': " if field else ""
        details = [f"found {shown(found)}"] if found is not None else []
        details += [f"expected {expected}"] if expected else []
        body = "; ".join([message, ", ".join(details)]) if details else message
        super().__init__(f"{where}{named}{body.rstrip('.')}." + (f" {hint}" if hint else ""))


class NotFinite(Fault):
    """A loss or gradient that is not a finite number; the run stopped and wrote nothing wrong."""

    status = 3


class Interrupted(Fault):
    """The user stopped the run; it was saved and can be resumed."""

    status = 130


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python or PyTorch says that no memory was left, of the machine or of a device."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in told or "allocate memory" in told


def shown(value: object, limit: int = 80) -> str:
    """A value as an error message shows it: its representation, at most `limit` characters: the middle is left out,
    since both the beginning of a row and the end of a path tell most."""
    text = value if isinstance(value, str) and value.startswith(("a ", "an ")) else repr(value)
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - tail - 3]}...{text[-tail:]}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """'Did you mean X?' for the known name closest to `name`, or None when none is close."""
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return f"Did you mean '{by_lower[close[0]]}'?" if close else None
