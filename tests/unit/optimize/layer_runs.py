"""One step of full tuning under a layer policy, and what it costs."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from tunewright import catalog
from tunewright.testing.models import tiny
from tunewright.testing.runs import tiny_loop


def full_loop(method=None, blocks=8, steps=40, **options):
    """A loop over a model of equal matrices, all of it trained."""
    parts = {"adapter": catalog.find("adapter", "full")()}
    model = tiny(num_hidden_layers=blocks, num_key_value_heads=4, intermediate_size=32)
    return tiny_loop(parts | ({"layers": method} if method else {}), model=model, steps=steps, **options)


def spent(loop):
    """(operations, bytes kept for the backward pass, bytes of gradients, numbers of optimizer state) of a step."""
    for hook in loop.hooks:
        hook.on_step(loop)
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    counter = FlopCounterMode(display=False)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        batch = loop.batches(0)[0]
        with counter:
            loop.losses(batch).total.backward()
    gradients = sum(p.grad.nbytes for p in loop.attached.trained().values() if p.grad is not None)
    loop.advance(1)
    state = sum(v.numel() for s in loop.optimizer.state.values() for v in s.values() if getattr(v, "ndim", 0))
    weights = {p.data_ptr() for p in loop.policy.parameters()}
    return (
        counter.get_total_flops(),
        sum(size for at, size in kept.items() if at not in weights),
        gradients,
        state,
    )
