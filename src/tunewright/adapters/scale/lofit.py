"""LoFiT: offsets at the few attention heads that matter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tunewright.adapters.base import Adapter
from tunewright.adapters.scale._folded import AttachedFolded, Folded, as_kept, bias_of, matrix
from tunewright.catalog import Paper, option
from tunewright.errors import BadInput
from tunewright.hooks import Hook
from tunewright.models.layers import matches, shape_of, targets

if TYPE_CHECKING:
    from tunewright.train.loop import Loop

OUTPUTS = ("o_proj", "out_proj", "attn.c_proj", "attention.dense", "self_attn.dense")
"""What the layer is called, in one architecture or another, that reads the concatenated heads of an attention."""

LEARNED = {"adapter.heads": "learned"}


class LoFiT(Adapter):
    """Finds the attention heads that matter for the task and trains an offset vector at each of them alone.

    z_li [head_dim], the output of query head i of layer l before the output projection, for every token.
    Selection: z <- (1 + A_li) * z at all heads, A from N(0, init_std^2), minimises the task's loss + l1 * sum |A|;
    the K = max(1, round(top_fraction * heads)) heads with the largest ||A_li|| are kept and A is discarded. Then
    z <- z + v_li at these heads (`component: scale` trains z <- (1 + a_li) * z there), v from N(0, init_std^2), so that
    the output changes a little at the start. Trained numbers: K * head_dim.

    The selection runs before the first step, by AdamW at the constant rate `lr_select` over the batches of the run's
    own steps (`selection` times their number), and its tokens and seconds are counted as the run's. It cannot be
    stopped in between; a run that is resumed after a step keeps the heads it chose. Without a loop, and with
    `heads: random`, the heads are drawn at random.

    Merging is exact: the output projection's bias gains W_o[:, head] v (a scale multiplies these columns). As a
    checkpoint it fits architectures whose output projection may have a bias. The paper's rate for v is about 1e-2.

    When to use: few examples, and a behaviour the model has but does not show (truthfulness, a style). When not: new
    knowledge or long training, for which some thousand numbers are too few.
    """

    name: ClassVar[str] = "lofit"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(title="LoFiT: Localized Fine-tuning on LLM Representations", arxiv="2406.01563", card=129),
    )

    top_fraction: float = option(0.03, "Share of all heads that are kept.", changes="parameters", to=0.5, gt=0, le=1)
    component: Literal["offset", "scale"] = option(
        "offset", "What trains at the kept heads: an offset, or a scale.", changes="loss", to="scale"
    )
    heads: Literal["learned", "random"] = option(
        "learned", "How the heads are chosen: by the selection, or at random.", changes="tokens", to="random"
    )
    init_std: float = option(1e-3, "Spread of offsets and scales at the start.", changes="loss", to=0.1, ge=0)
    selection: float = option(
        1.0, "Steps of the selection, as a share of the run's.", changes="tokens", to=0.5, given=LEARNED, gt=0
    )
    lr_select: float = option(5e-3, "Learning rate of the selection.", changes="loss", to=1.0, given=LEARNED, gt=0)
    l1_select: float = option(5e-4, "Weight of sum |A| in the selection.", changes="loss", to=10.0, given=LEARNED, ge=0)
    projections: tuple[str, ...] = option(
        (), "The layers that read the heads, by name, path ending or glob; found by their usual names when empty.",
        changes="parameters", to=["*.0.self_attn.o_proj"], given={"adapter.top_fraction": 1.0},
    )  # fmt: skip

    @property
    def neutral(self) -> bool:
        return self.init_std == 0

    def attach(self, model: nn.Module, supplies: Mapping[str, Any] | None = None) -> AttachedLoFiT:
        layers = self._layers(model)
        count = model.config.get_text_config().num_attention_heads  # type: ignore[union-attr, operator]
        for name, layer in layers.items():
            if shape_of(layer)[1] % count:
                raise BadInput(
                    f"'{name}' does not read the outputs of {count} heads",
                    field="adapter.projections",
                    found=f"{shape_of(layer)[1]} inputs",
                )
        model.requires_grad_(False)
        return AttachedLoFiT(model, self, layers, count)

    def _layers(self, model: nn.Module) -> dict[str, nn.Module]:
        if self.projections:
            return targets(model, self.projections)
        found = {n: m for n, m in targets(model, "all-linear").items() if any(matches(n, p) for p in OUTPUTS)}
        if not found:
            raise BadInput(
                "the layers that read the attention heads have none of the usual names",
                field="adapter.projections",
                hint="Name them.",
            )
        return found


class AttachedLoFiT(AttachedFolded):
    """Vectors at K heads, as the model's child `lofit`; `heads` int64 [K, 2] holds (layer, head) of each."""

    def __init__(self, model: nn.Module, method: LoFiT, layers: dict[str, nn.Module], count: int) -> None:
        super().__init__(model)
        self.method, self.layers, self.count = method, layers, count
        first: Any = next(iter(layers.values()))
        self.device: torch.device = first.weight.device
        total = len(layers) * count
        kept = max(1, round(method.top_fraction * total))
        self.take(torch.randperm(total)[:kept])
        sizes = {shape_of(layer)[1] // count for layer in layers.values()}
        if len(sizes) > 1:
            raise BadInput("the heads of the layers are of different sizes", field="adapter.projections", found=sizes)
        [self.size] = sizes
        self.vectors = nn.ParameterList(method.init_std * torch.randn(self.size) for _ in range(kept)).to(self.device)
        self.vectors.train(model.training)
        self.probe: Tensor | None = None
        model.add_module("lofit", self.vectors)
        self._handles = [
            layer.register_forward_pre_hook(partial(self._changed, number))
            for number, layer in enumerate(layers.values())
        ]

    def take(self, chosen: Tensor) -> None:
        """Works at these heads from now on, each given as layer * heads + head."""
        chosen = chosen.sort().values.to(self.device)
        self.heads = torch.stack([chosen // self.count, chosen % self.count], 1)

    def change(self, layer: int) -> Tensor | None:
        """What is added to the outputs of a layer's heads, or to 1 as their factor: float32 [heads * head_dim]."""
        rows = [row for row, (place, _) in enumerate(self.heads.tolist()) if place == layer]
        if not rows:
            return None
        made = torch.zeros(self.count, self.size, device=self.device)
        return made.index_copy(0, self.heads[rows, 1], torch.stack([self.vectors[row] for row in rows])).flatten()

    def _changed(self, layer: int, module: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not self.enabled or self.folded is not None:
            return None
        x, *others = args
        if self.probe is not None:
            return ((x * (1 + self.probe[layer].flatten())).to(x.dtype), *others)
        change = self.change(layer)
        if change is None:
            return None
        return ((x * (1 + change) if self.method.component == "scale" else x + change).to(x.dtype), *others)

    def hook(self) -> Hook | None:
        return HeadSelection(self) if self.method.heads == "learned" else None

    def trained(self) -> dict[str, nn.Parameter]:
        return {f"vectors.{number}": vector for number, vector in enumerate(self.vectors)}

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"heads": self.heads}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        heads = state.get("heads")
        super().load_state({name: value for name, value in state.items() if name != "heads"})
        if heads is None or heads.shape != self.heads.shape:
            raise BadInput("the saved adapter does not say which heads it is for", field="heads")
        self.heads = heads.to(self.device)

    def detach(self) -> None:
        self.unmerge()
        for handle in self._handles:
            handle.remove()
        del self.model.lofit

    @torch.no_grad()
    def merge(self) -> None:
        if self.folded is not None:
            return
        self.folded = Folded(self.model)
        for number, layer in enumerate(self.layers.values()):
            change = self.change(number)
            if change is None:
                continue
            if self.method.component == "scale":
                self.folded.set(layer, "weight", as_kept(layer, matrix(layer) * (1 + change)))
            else:
                self.folded.set(layer, "bias", bias_of(layer) + matrix(layer) @ change)

    def plain_weights(self) -> dict[str, Tensor]:
        weights = {name: value for name, value in self.model.state_dict().items() if not name.startswith("lofit.")}
        return self.folded.checkpoint(weights, "'component: scale' needs no bias.") if self.folded else weights


class HeadSelection(Hook):
    """Chooses the heads before the first step."""

    def __init__(self, attached: AttachedLoFiT) -> None:
        self.attached = attached
        self.chosen = False

    def on_step(self, loop: Loop) -> None:
        if not self.chosen:
            # As in a probe: the task's loss alone, and nothing recorded.
            hooks, loop.hooks = loop.hooks, []
            try:
                self._choose(loop)
            finally:
                loop.hooks, self.attached.probe = hooks, None
            self.chosen = True

    def _choose(self, loop: Loop) -> None:
        attached, method, seed = self.attached, self.attached.method, loop.settings.seed
        shape = (len(attached.layers), attached.count, attached.size)
        drawn = method.init_std * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        attached.probe = scales = nn.Parameter(drawn.to(attached.device))
        optimizer = torch.optim.AdamW([scales], lr=method.lr_select, weight_decay=0.0)
        for step in range(max(1, round(method.selection * loop.total))):
            started = time.perf_counter()
            torch.manual_seed((seed << 32) + step)
            optimizer.zero_grad(set_to_none=True)
            sums = torch.zeros(2, device=attached.device)
            for batch in loop.prepared(step, loop.batches(step % loop.total)):
                loss = loop.losses(batch)
                loss.total.backward(inputs=[scales])
                sums += torch.stack([loss.weight.detach().float(), sums.new_tensor(batch.tokens)])
            weight, tokens = loop.world.sum_gradients([scales], sums)
            scales.grad = scales.grad / weight.clamp(min=1e-12) + method.l1_select * scales.detach().sign()
            optimizer.step()
            loop.state.tokens += int(tokens)
            loop.state.seconds += time.perf_counter() - started
        scores = scales.detach().norm(dim=-1).flatten()
        attached.take(scores.argsort(descending=True, stable=True)[: len(attached.heads)])

    def state(self) -> dict[str, Any]:
        return {"chosen": self.chosen}

    def load_state(self, state: dict[str, Any]) -> None:
        self.chosen = bool(state.get("chosen", False))
