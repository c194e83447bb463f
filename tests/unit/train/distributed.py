"""What the pair of processes is asked to do."""

from dataclasses import replace

import torch

from tunewright import catalog
from tunewright.hooks import Hook
from tunewright.models.shards import shard
from tunewright.testing.effects import usual
from tunewright.testing.runs import ALONE, Steps, disturb, table_for, tiny_loop, usual_parts
from tunewright.testing.tables import plan_of, random_table
from tunewright.train.loop import Settings

TABLE = random_table()


class Gradients(Hook):
    """Keeps the averaged gradient of every step."""

    def __init__(self):
        self.seen = []

    def after_backward(self, loop):
        whole = lambda g: g.full_tensor() if hasattr(g, "full_tensor") else g
        # An expert that no token chose has none.
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in loop.trained]
        self.seen.append(torch.cat([whole(g).flatten().clone() for g in found]))


def trained(world, adapter, micro=32, layout="padded", sharded=False, tokens_per_step=50, steps=4):
    """Losses, tokens, gradients and final weights of a short run."""
    kept, gradients = Steps(), Gradients()
    method = catalog.find("adapter", adapter)
    # What is dropped depends on how a step is cut.
    options = {name: value for name, value in (("rank", 4), ("dropout", 0.0)) if name in method.model_fields}
    loop = tiny_loop(
        {"adapter": method(**options)},
        table=TABLE,
        plan=plan_of(TABLE, steps=steps, tokens_per_step=tokens_per_step),
        settings=Settings(micro_batch_tokens=micro, layout=layout),
        hooks=[kept, gradients],
        world=world,
    )
    if sharded:
        own = getattr(loop.attached, "whole", None)
        replicated = [] if own else list(loop.attached.trained().values())
        shard(loop.policy, replicated, world.device, world.size)
        loop.trained = list(loop.attached.trained().values())
        loop.optimizer = catalog.find("optimizer", "adamw")(lr=1e-2).build(loop.attached.trained())
    loop.run()
    whole = lambda t: (t.full_tensor() if hasattr(t, "full_tensor") else t).detach().numpy().copy()
    return {
        "loss": [step.loss for step in kept.done],
        "sources": [step.sources for step in kept.done],
        "norm": [step.gradient_norm for step in kept.done],
        "tokens": [step.tokens for step in kept.done],
        "gradients": [g.numpy() for g in gradients.seen],
        "state": {name: whole(value) for name, value in loop.attached.state().items()},
    }


def composed(world, kind, name, steps=5):
    """Losses and final weights of a short run with one method of a kind, all else as usual."""
    kept = Steps()
    method = usual(catalog.find(kind, name))
    # The tiny model has two blocks.
    parts = {kind: method.model_copy(update={"blocks": 1}) if "blocks" in type(method).model_fields else method}
    if kind == "layers":
        parts["adapter"] = catalog.find("adapter", "full")()
    objective = parts.get("objective") or usual_parts()["objective"]
    loop = tiny_loop(
        parts, plan=plan_of(table_for(objective), steps=steps, tokens_per_step=50), table=table_for(objective),
        settings=Settings(micro_batch_tokens=32), hooks=[kept], world=world,
    )  # fmt: skip
    loop.run()
    return [step.loss for step in kept.done], [p.detach().numpy().copy() for p in loop.trained]


def surveyed(world, micro, layout):
    """Losses and final weights of a short run whose objective must know the whole step."""
    kept = Steps()
    objective = catalog.find("objective", "kto")(beta=0.5)
    loop = tiny_loop(
        {"objective": objective, "optimizer": catalog.find("optimizer", "sgd")(lr=0.05)},
        plan=plan_of(table_for(objective), steps=3, tokens_per_step=50),
        settings=Settings(micro_batch_tokens=micro, layout=layout, clip=None),
        hooks=[kept],
        world=world,
    )
    disturb(loop.attached)
    loop.run()
    return [step.loss for step in kept.done], [p.detach().numpy().copy() for p in loop.trained]


def balanced(world, options, micro, sharded=False):
    """Losses, what the order remembers and final weights of a short run whose tasks are balanced."""
    kept = Steps()
    order = catalog.find("order", "mft_multitask_loss")(**options)
    loop = tiny_loop(
        {"order": order, "optimizer": catalog.find("optimizer", "sgd")(lr=0.05)},
        table=TABLE,
        plan=plan_of(TABLE, steps=4, tokens_per_step=50),
        settings=Settings(micro_batch_tokens=micro, clip=None),
        hooks=[kept],
        world=world,
    )
    if sharded:
        shard(loop.policy, list(loop.attached.trained().values()), world.device, world.size)
    loop.run()
    [state] = [hook.state() for hook in loop.hooks if type(hook).__name__ == "Balance"]
    return [step.loss for step in kept.done], state, [p.detach().numpy().copy() for p in loop.trained]


def alone(adapter, **options):
    """The same in one process."""
    return trained(ALONE, adapter, **options)


def batches_of(world, micro):
    """How many micro-batches this process computes in each step, and the table rows that carry weight in them."""
    loop = tiny_loop(table=TABLE, settings=Settings(micro_batch_tokens=micro), world=world, steps=4)
    steps = [loop.batches(step) for step in range(4)]
    rows = [[int(i) for b in batches if b.weights.any() for i in b.indices] for batches in steps]
    return [len(batches) for batches in steps], rows


def changing_set(world):
    """Gradients when one parameter has none in this process, and another in neither."""
    loop = tiny_loop(table=TABLE, world=world)
    for number, parameter in enumerate(loop.trained):
        parameter.grad = None if number in (world.rank, 5) else torch.full_like(parameter, 1.0 + world.rank)
    sums = world.sum_gradients(loop.trained, torch.tensor([1.0, 2.0 + world.rank]))
    return sums.tolist(), [float(p.grad.mean()) for p in loop.trained[:3]], loop.trained[5].grad is None


def empty_turn(world):
    """The zero-weight batch of the process whose turn does not come."""
    loop = tiny_loop(table=TABLE, settings=Settings(micro_batch_tokens=10_000), world=replace(world))
    [batch] = loop.batches(0)
    return float(batch.weights.sum()), batch.tokens
