"""A run that saves after every step and goes on from what it finds: FOLDER STEPS. Prints each step."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tunewright.adapters import LoRA
from tunewright.testing.runs import Hook, tiny_loop
from tunewright.train.checkpoint import Checkpoints, latest, unpack


class Say(Hook):
    def after_step(self, loop, step):
        print(step.step, flush=True)


def main(folder, steps):
    torch.set_num_threads(1)
    saves = Checkpoints(folder / "checkpoints", every=1, keep=2)
    parts = {"adapter": LoRA(rank=4, dropout=0.2, train_modules=("embed_tokens", "norm"))}
    loop = tiny_loop(parts, steps=steps, hooks=[Say(), saves])
    if found := latest(folder / "checkpoints"):
        unpack(loop, found)
    loop.run()
    save_file({name: value.contiguous() for name, value in loop.attached.state().items()}, folder / "final.safetensors")


main(Path(sys.argv[1]), int(sys.argv[2]))
