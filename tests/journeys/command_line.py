"""The command line as a user calls it, and the files it is given."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

WORDS = [
    "red",
    "blue",
    "green",
    "small",
    "big",
    "old",
    "new",
    "round",
    "flat",
    "warm",
    "cold",
    "soft",
    "hard",
    "dark",
    "light",
    "quick",
    "slow",
    "tall",
    "short",
    "wide",
]


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


def call(*arguments):
    """Runs a command of the command line in this process."""
    from tunewright import cli

    out, err = io.StringIO(), io.StringIO()
    arguments = [str(argument) for argument in arguments]
    argv, sys.argv = sys.argv, ["tunewright", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    finally:
        sys.argv = argv
    return Ended(status, out.getvalue(), err.getvalue())


def good(*arguments):
    """Runs a command that must succeed."""
    ended = call(*arguments)
    assert ended.status == 0, ended.err + ended.out
    return ended


def started(*arguments, launcher=(), **options):
    """A command running in a process of its own."""
    command = [sys.executable, *launcher, "-m", "tunewright.cli", *(str(argument) for argument in arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def ended(process, seconds=300):
    """How a process of `started` ends."""
    out, err = process.communicate(timeout=seconds)
    return Ended(process.returncode, out, err)


def written(folder, recipe, name="recipe.yaml"):
    """A recipe of plain values as a YAML file."""
    path = Path(folder) / name
    with path.open("w") as stream:
        YAML().dump(json.loads(json.dumps(recipe, default=str)), stream)
    return path


def rows_file(path, rows):
    """Rows as a JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(n, start=0):
    """Prompt and completion rows with a rule to learn: the answer repeats the word."""
    return [
        {"prompt": f"{start + k}: say {WORDS[(start + k) % len(WORDS)]} -> ", "completion": WORDS[(start + k) % len(WORDS)]}
        for k in range(n)
    ]  # fmt: skip


def evidence(folder):
    """The evidence of a run and its measures by name."""
    found = json.loads((folder / "evidence.json").read_text())
    return found, {one["name"]: one for one in found["measures"]}
