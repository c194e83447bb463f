"""Jobs done in parallel: each once, in processes that live as long as the comparison, or on a Ray cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import psutil
import torch

from tunewright.comparison.jobs import CHECKPOINT, Job, Result
from tunewright.errors import BadInput, Fault

LOG = "workers.log"


class Crew:
    """Does jobs; results are kept in `folder`, and a job whose result is there is not done again.

    `size` processes work at once. Without it, the first trial runs alone, and the memory it took says how many fit
    beside it, at most one per processor core (or accelerator). `ray` is the address of a cluster that does them
    instead. `done` counts the jobs done here.
    """

    def __init__(
        self,
        folder: Path,
        size: int | None = None,
        ray: str | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.size, self.ray, self.say = folder, size, ray, say
        self.done = 0
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._workers: list[Worker] = []
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers:
            worker.end()

    def results(self, jobs: Sequence[Job], alone: bool = False) -> list[Result]:
        """The result of every job, in their order; equal jobs are done once. With `alone`, one at a time.

        A fault of one job does not keep the others from being done. Raises that of the first at the end.
        """
        todo = {job.key: job for job in jobs if self._found(job) is None}
        if todo:
            self._do(list(todo.values()), alone)
        found = {job.key: self._found(job) for job in jobs}
        lost = [key for key, one in found.items() if one is None]
        if lost:
            raise Fault(f"{self.folder / lost[0]}.json: the result of a trial that was done is not there")
        return [one for job in jobs if (one := found[job.key]) is not None]

    def forget(self, but: Sequence[Job] = ()) -> None:
        """Removes the checkpoints of all trials `but` these."""
        needed = {job.checkpoint(self.folder) for job in but}
        for found in self.folder.glob(f"*{CHECKPOINT}*"):
            if found not in needed:
                shutil.rmtree(found)

    def _found(self, job: Job) -> Result | None:
        return Result.read(self.folder / f"{job.key}.json")

    def _do(self, jobs: Sequence[Job], alone: bool) -> None:
        if self.ray is not None:
            from tunewright.comparison.cluster import on_ray

            answers = on_ray(jobs, self.ray, self.folder)
            told = [self._told(answer, number, len(jobs)) for number, answer in enumerate(answers, 1)]
        else:
            told = []
            rest = list(jobs)
            if self.size is None and not alone and len(rest) > 1 and rest[0].kind in ("judge", "tune"):
                told += self._at_once([rest.pop(0)], 1, _cores(), len(jobs))
                first = self._found(jobs[0])
                self.size = _fitting(None if first is None else first.cost.get("resident_bytes"))
            size = 1 if alone else self.size or 1
            told += self._at_once(rest, size, self.size or (1 if alone else _cores()), len(jobs))
        if faults := [fault for fault in told if fault]:
            raise faults[0]

    def _at_once(self, jobs: Sequence[Job], size: int, sharing: int, total: int) -> list[Fault | None]:
        """Does jobs with `size` processes, each with its part of the cores where `sharing` of them share these."""
        self._engage(min(size, len(jobs)), max(1, _cores() // sharing))
        faults: list[Fault | None] = []
        with ThreadPoolExecutor(max_workers=size) as threadpool:
            waiting: list[Future[Mapping[str, Any]]] = [threadpool.submit(self._ask, job) for job in jobs]
            try:
                for number, future in enumerate(as_completed(waiting), total - len(jobs) + 1):
                    faults.append(self._told(future.result(), number, total))
            except BaseException:
                threadpool.shutdown(wait=False, cancel_futures=True)
                for worker in self._workers:
                    worker.end()
                raise
        return faults

    def _engage(self, size: int, threads: int) -> None:
        """Has `size` idle workers with `threads` threads each."""
        if any(worker.threads != threads for worker in self._workers):
            for worker in self._workers:
                worker.end()
            self._workers, self._idle = [], SimpleQueue()
        while len(self._workers) < size:
            self._workers.append(Worker(self.folder, len(self._workers), threads))
            self._idle.put(self._workers[-1])

    def _ask(self, job: Job) -> Mapping[str, Any]:
        worker = self._idle.get()
        answer = worker.ask(job)
        if worker.ended:
            self._workers.remove(worker)
            worker = Worker(self.folder, worker.number, worker.threads)
            self._workers.append(worker)
        self._idle.put(worker)
        return answer

    def _told(self, answer: Mapping[str, Any], number: int, total: int) -> Fault | None:
        self.done += 1
        if "fault" in answer:
            fault = BadInput(answer["fault"]) if answer["status"] == 2 else Fault(answer["fault"])
            self.say(f"{number} of {total}: failed: {fault}")
            return fault
        self.say(f"{number} of {total} done")
        return None


class Worker:
    """A process that answers jobs; it has `threads` threads, and accelerator `number` where there are several."""

    def __init__(self, folder: Path, number: int, threads: int) -> None:
        self.number, self.threads = number, threads
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if torch.cuda.device_count() > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(number % torch.cuda.device_count())
        with (folder / LOG).open("a") as log:
            # A session of its own: Ctrl-C is for the comparison, which ends its workers.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunewright.comparison.worker", str(folder)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True,
            )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def ask(self, job: Job) -> Mapping[str, Any]:
        """What the worker answers to a job; a fault when it ends instead."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job.plain()) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        hint = "It ran out of memory, or was killed. Lower --jobs." if code in (-9, 137) else f"See {LOG}."
        return {"key": job.key, "fault": f"a worker ended with status {code}. {hint}", "status": 1}

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.terminate()
        self._process.wait()


def _cores() -> int:
    """The processor threads that may be used: those this process may run on, or fewer where OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores


def _fitting(peak: float | None) -> int:
    """How many trials run at once: as many as cores (or accelerators), and as fit into the memory that is free."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    if not peak:
        return 1
    return max(1, min(_cores(), 1 + int(psutil.virtual_memory().available // peak)))
