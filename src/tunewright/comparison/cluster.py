"""Jobs on a Ray cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright import output
from tunewright.comparison.jobs import Job
from tunewright.comparison.kept import Kept
from tunewright.comparison.worker import work
from tunewright.errors import BadInput

_kept: list[Kept] = []
"""What a Ray process keeps between jobs."""


def remotely(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Does a job where it is called: the worker's answer, with the result's text under `result`."""
    if not _kept:
        _kept.append(Kept())
    with tempfile.TemporaryDirectory() as folder:
        job = Job.of(plain)
        answer = work(job, Path(folder), _kept[0])
        file = Path(folder) / f"{job.key}.json"
        return {**answer, "result": file.read_text()} if file.exists() else answer


def on_ray(jobs: Sequence[Job], address: str, folder: Path) -> Iterator[Mapping[str, Any]]:
    """The answers of a cluster, as they come; results are written into `folder` here.

    Models and data must lie under the same paths on every machine. Raises `BadInput` where Ray is not installed or the
    cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise BadInput(
            "Ray is not installed", field="--ray", found=address, hint="Run: pip install 'tunewright[ray]'."
        ) from None
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(f"the cluster does not answer: {error}", field="--ray", found=address) from None
    task = ray.remote(remotely)
    waiting = [task.remote(job.plain()) for job in jobs]
    while waiting:
        [done], waiting = ray.wait(waiting, num_returns=1)
        answer = dict(ray.get(done))
        if "result" in answer:
            output.write(folder / f"{answer['key']}.json", answer.pop("result"))
        yield answer
