"""A standing pair of processes that train together, so that tests need not start one each."""

import os
import traceback

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tunewright.train.processes import World


class Pair:
    """Two processes joined by gloo; `call` runs a function of (world, *args) in both and returns both answers."""

    def __init__(self, folder):
        context = mp.get_context("spawn")
        self.inboxes = [context.Queue() for _ in range(2)]
        self.outbox = context.Queue()
        self.workers = [
            context.Process(target=_serve, args=(rank, str(folder / "meeting"), inbox, self.outbox), daemon=True)
            for rank, inbox in enumerate(self.inboxes)
        ]
        for worker in self.workers:
            worker.start()

    def call(self, function, *args):
        for inbox in self.inboxes:
            inbox.put((function, args))
        answers = dict(self.outbox.get(timeout=120) for _ in self.workers)
        for answer in answers.values():
            if isinstance(answer, str):
                raise AssertionError(answer)
        return [answers[0][0], answers[1][0]]

    def close(self):
        for inbox in self.inboxes:
            inbox.put(None)
        for worker in self.workers:
            worker.join(20)


def _serve(rank, meeting, inbox, outbox):
    torch.set_num_threads(1)
    os.environ["WORLD_SIZE"] = "2"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    world = World(rank, 2, torch.device("cpu"))
    while (job := inbox.get()) is not None:
        function, args = job
        try:
            outbox.put((rank, (function(world, *args),)))
        except Exception:
            outbox.put((rank, traceback.format_exc()))
    dist.destroy_process_group()
