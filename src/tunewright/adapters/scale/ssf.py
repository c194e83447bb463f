"""SSF: a scale and a shift after every operation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tunewright.adapters.base import Adapter
from tunewright.adapters.scale._folded import AttachedFolded, Folded, as_kept, bias_of, matrix
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.models.layers import linear_layers, matches, shape_of

Operation = Literal["embeddings", "norms", "linears", "convolutions"]
CHANNELS_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
"""Modules whose outputs have their channels in dimension 1, not in the last."""


class SSF(Adapter):
    """Scales and shifts each channel of what every operation of a frozen network puts out.

    y = g * x + t with g, t [d] after the token embedding, every norm, every linear layer of the body (before the
    activation) and every convolution (channels in dimension 1), d their width; g from N(1, 0.02^2), t from N(0, 0.02^2),
    so that the output changes a little at the start, and not at all with both spreads 0. As vectors they have no weight
    decay, which would pull g to 0. Trained numbers: twice the sum of the widths.

    Merging is exact. Embedding: rows g * e + t (a tied head is untied and keeps the old rows). Norm with a bias: g * w and
    g * b + t; without one: g * w, and W t joins the bias of every linear layer that reads the norm. Linear and
    convolution: diag(g) W and g * b + t. It needs biases: as a checkpoint it fits only architectures that have them;
    a Llama has none in its head, so that there the last norm must be excluded (`exclude: [model.norm]`).

    When to use: little data close to what the model knows, and a model that must cost nothing more once it is tuned.
    When not: much new to learn, where `lora` has room; merged export from architectures without biases.
    """

    name: ClassVar[str] = "ssf"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning",
            arxiv="2210.08823",
            card=25,
        ),
    )

    insert_after: tuple[Operation, ...] = option(
        ("embeddings", "norms", "linears", "convolutions"),
        "The operations that are scaled and shifted.",
        changes="parameters",
        to=["linears"],
    )
    exclude: tuple[str, ...] = option(
        (), "Modules left out, by name, path ending or glob.", changes="parameters", to=["down_proj"]
    )
    scale_std: float = option(0.02, "Spread of the scales around 1 at the start.", changes="loss", to=0.0, ge=0)
    shift_std: float = option(0.02, "Spread of the shifts around 0 at the start.", changes="loss", to=0.0, ge=0)

    @property
    def neutral(self) -> bool:
        return self.scale_std == 0 and self.shift_std == 0

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedSSF:
        found = operations(model, self.insert_after)
        for pattern in self.exclude:
            if not any(matches(name, pattern) for name in found):
                raise BadInput(f"no operation matches '{pattern}'", field="adapter.exclude")
        chosen = {n: m for n, m in found.items() if not any(matches(n, pattern) for pattern in self.exclude)}
        if not chosen:
            raise BadInput("the model has no such operation", field="adapter.insert_after", found=self.insert_after)
        model.requires_grad_(False)
        return AttachedSSF(model, {name: self._on(module) for name, module in chosen.items()})

    def _on(self, module: nn.Module) -> ScaleShift:
        width, weight = width_of(module), next(module.parameters(), None)
        made = ScaleShift(
            1 + self.scale_std * torch.randn(width),
            self.shift_std * torch.randn(width),
            1 if isinstance(module, CHANNELS_SECOND) else -1,
        )
        return made.to(weight.device if weight is not None else None).train(module.training)


class ScaleShift(nn.Module):
    """y = scale * x + shift along dimension `channels` of x, in float32 and given back in the dtype of x."""

    def __init__(self, scale: Tensor, shift: Tensor, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(scale), nn.Parameter(shift)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        shape = [-1] + [1] * (x.ndim - 2) if self.channels == 1 else [-1]
        return torch.addcmul(self.shift.view(shape), x, self.scale.view(shape)).to(x.dtype)


class AttachedSSF(AttachedFolded):
    """Scales and shifts on modules, each as the module's own child `ssf`."""

    def __init__(self, model: nn.Module, inserted: dict[str, ScaleShift]) -> None:
        super().__init__(model)
        self.inserted = inserted
        self._handles = []
        for name, each in inserted.items():
            module = model.get_submodule(name)
            module.add_module("ssf", each)
            self._handles.append(module.register_forward_hook(self._scaled))

    def _scaled(self, module: Any, args: object, out: Tensor) -> Tensor:
        return module.ssf(out) if self.enabled and self.folded is None else out

    def trained(self) -> dict[str, nn.Parameter]:
        return {
            f"{name}.{part}": parameter
            for name, each in self.inserted.items()
            for part, parameter in (("scale", each.scale), ("shift", each.shift))
        }

    def detach(self) -> None:
        self.unmerge()
        for handle in self._handles:
            handle.remove()
        for name in self.inserted:
            del self.model.get_submodule(name).ssf

    @torch.no_grad()
    def merge(self) -> None:
        if self.folded is not None:
            return
        folded, model = Folded(self.model), self.model
        modules = {name: model.get_submodule(name) for name in self.inserted}
        pushed = self._pushed(modules)
        before = _logits(model) if pushed else None
        for name, module in modules.items():
            g, t = self.inserted[name].scale, self.inserted[name].shift
            if isinstance(module, nn.Embedding):
                self._untie(folded, module)
                folded.set(module, "weight", g * module.weight.float() + t / _factor(module))
            elif is_norm(module):
                gain: Any = module.weight
                start = _gain_start(module)
                if getattr(module, "bias", None) is not None:
                    folded.set(module, "bias", g * bias_of(module) + t)
                folded.set(module, "weight", g * (start + gain.float()) - start)
            elif isinstance(module, nn.modules.conv._ConvNd):
                folded.set(module, "bias", g * bias_of(module) + t)
                folded.set(module, "weight", g.view(-1, *[1] * (module.weight.ndim - 1)) * module.weight.float())
        for name, module in _linears(model).items():
            own = self.inserted.get(name)
            if own is None and module not in pushed:
                continue
            weight, bias = matrix(module), bias_of(module)
            if module in pushed:
                bias = bias + weight @ pushed[module]
            if own is not None:
                bias = own.scale * bias + own.shift
                folded.set(module, "weight", as_kept(module, own.scale[:, None] * weight))
            folded.set(module, "bias", bias)
        self.folded = folded
        single = next(model.parameters()).dtype == torch.float32
        if before is not None and (_logits(model) - before).norm() > (1e-3 if single else 5e-2) * before.norm():
            self.unmerge()
            raise BadInput(
                "more than linear layers reads a norm's output, so its shift cannot be folded into them",
                hint="Train with 'insert_after: [embeddings, linears]' to merge afterwards.",
            )

    def plain_weights(self) -> dict[str, Tensor]:
        ours = {f"{name}.ssf.{part}" for name in self.inserted for part in ("scale", "shift")}
        weights = {name: value for name, value in self.model.state_dict().items() if name not in ours}
        if self.folded is None:
            return weights
        return self.folded.checkpoint(
            weights, "Train with 'exclude' naming what shifts it: for the head's bias, the norm before the head."
        )

    def _untie(self, folded: Folded, embedding: nn.Embedding) -> None:
        model: Any = self.model
        find: Any = getattr(model, "get_output_embeddings", lambda: None)
        head = find()
        if head is not None and head.weight is embedding.weight:
            folded.configure("tie_word_embeddings", False)

    def _pushed(self, modules: Mapping[str, nn.Module]) -> dict[nn.Module, Tensor]:
        """Linear layer -> the shift of the norm it reads, for norms that have no bias to take it."""
        bare = {n: m for n, m in modules.items() if is_norm(m) and getattr(m, "bias", None) is None}
        readers = _readers(self.model, bare) if bare else {}
        for name in bare:
            if name not in readers:
                raise BadInput(
                    f"'{name}' has no bias to take its shift, and no linear layer reads it",
                    hint=f"Train with 'exclude: [{name}]' to merge afterwards.",
                )
        return {layer: self.inserted[name].shift for name, layers in readers.items() for layer in layers}


def operations(model: Any, kinds: Collection[Operation]) -> dict[str, nn.Module]:
    """The modules of these kinds by name, in the model's order; the output head is none of them."""
    linears = set(linear_layers(model).values()) if "linears" in kinds else set()
    tokens = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    return {
        name: module
        for name, module in model.named_modules()
        if module in linears
        or ("embeddings" in kinds and module is tokens)
        or ("norms" in kinds and is_norm(module))
        or ("convolutions" in kinds and isinstance(module, nn.modules.conv._ConvNd))
    }


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises and then multiplies by a gain of its own."""
    gain = getattr(module, "weight", None)
    return "Norm" in type(module).__name__ and isinstance(gain, Tensor) and gain.ndim == 1


def width_of(module: Any) -> int:
    """How many channels a module puts out."""
    if isinstance(module, nn.Embedding):
        return module.embedding_dim
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.out_channels
    return len(module.weight) if is_norm(module) else shape_of(module)[0]


def _linears(model: Any) -> dict[str, nn.Module]:
    """The linear layers of the body, and the head."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    layers = linear_layers(model)
    if head is not None:
        layers["head"] = head
    return layers


def _factor(embedding: Any) -> float:
    """What an embedding multiplies its rows by: 1, or what some architectures scale them with."""
    largest = embedding.weight.float().square().sum(1).argmax()[None]
    row, out = embedding.weight[largest].float(), embedding.forward(largest).float()
    return float((out * row).sum() / row.square().sum())


def _gain_start(norm: Any) -> float:
    """c of a norm that computes (c + weight) * normalised: 0, or 1 where weights are kept as what is added to one."""
    if isinstance(norm, CHANNELS_SECOND):
        return 0.0
    weight, x = norm.weight.data, torch.randn(2, len(norm.weight), generator=torch.Generator().manual_seed(0))
    found = []
    for value in (0.0, 1.0):
        norm.weight.data = torch.full_like(weight, value)
        found.append(norm.forward(x.to(weight)).float())
    norm.weight.data = weight
    bias = 0.0 if getattr(norm, "bias", None) is None else norm.bias.float()
    normalised = found[1] - found[0]
    return round(float(((found[0] - bias) * normalised).sum() / normalised.square().sum()))


def _readers(model: Any, norms: Mapping[str, nn.Module]) -> dict[str, list[nn.Module]]:
    """Name of a norm -> the linear layers that read what it puts out, seen in a short pass of a language model."""
    made: dict[int, tuple[str, Tensor]] = {}
    found: dict[str, list[nn.Module]] = {}

    def note(name: str, out: Tensor) -> None:
        made[out.untyped_storage().data_ptr()] = (name, out)  # Kept, so that its place is not used again.

    def look(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if (source := made.get(args[0].untyped_storage().data_ptr())) is not None:
            found.setdefault(source[0], []).append(layer)

    handles = [m.register_forward_hook(lambda m, a, out, name=n: note(name, out)) for n, m in norms.items()]
    handles += [layer.register_forward_pre_hook(look) for layer in _linears(model).values()]
    try:
        _logits(model)
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    """What a language model makes of five tokens, float32."""
    ids = torch.arange(5, device=next(model.parameters()).device)[None]
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float()
