"""A method held to the contract of its kind, told in plain lines: what `tunewright check-method` does."""

from __future__ import annotations

import inspect
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tunewright import catalog
from tunewright.catalog import Method
from tunewright.errors import BadInput
from tunewright.testing import CONTRACTS
from tunewright.testing.effects import OBSERVERS, assert_method_field_has_effect, fields_of, usual


@dataclass(frozen=True)
class Finding:
    """One promise: whose, which, and why it is not kept (None: it is)."""

    method: str
    promise: str
    fault: str | None


def check_file(path: Path) -> Iterator[Finding]:
    """Every promise of every method that a Python file defines. Raises `BadInput` for a file that defines none."""
    for method in catalog.defined(catalog.use(path)):
        yield from check(method)


def check(method: type[Method]) -> Iterator[Finding]:
    """The promises of a method's kind, and the effect of each of its options."""
    label = f"{method.kind} {method.name}"
    yield _finding(label, "has a docstring that says what it does", lambda: _documented(method))
    if method.kind in CONTRACTS:
        module, name = CONTRACTS[method.kind].split(".")
        contract: Any = getattr(import_module(f"tunewright.testing.{module}"), name)
        for test in sorted(name for name in vars(contract) if name.startswith("test_")):
            run = getattr(contract(), test)
            yield _finding(label, test.removeprefix("test_").replace("_", " "), lambda run=run: _run(run, method))
    if method.kind in OBSERVERS:
        for field in fields_of(method):
            promise = f"option {field.name} has the effect it declares"
            yield _finding(label, promise, lambda field=field: assert_method_field_has_effect(field))


def _run(test: Any, method: type[Method]) -> None:
    wanted = inspect.signature(test).parameters
    with tempfile.TemporaryDirectory() as folder:
        given = {"method": usual(method), "tmp_path": Path(folder)}
        test(**{name: given[name] for name in wanted})


def _documented(method: type[Method]) -> None:
    assert (method.__doc__ or "").strip(), "no docstring: its first sentence is what `tunewright methods` shows"


def _finding(label: str, promise: str, run: Any) -> Finding:
    try:
        run()
    except (AssertionError, BadInput) as error:
        return Finding(label, promise, " ".join(str(error).split()) or _where(error))
    except Exception as error:
        return Finding(label, promise, f"{type(error).__name__}: {error} ({_where(error)})")
    return Finding(label, promise, None)


def _where(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}: {last.line}"
