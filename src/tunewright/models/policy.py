"""The model as the objectives see it: per-token functions of the logits where the weight is not zero."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tunewright.data.batches import Batch
from tunewright.errors import BadInput

TokenFunction = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]
"""(logits [n, vocabulary], targets int64 [n], columns of [n]) -> values float32 [n]; each value may depend on its own
row alone. Columns also hold the logits [n, vocabulary] of every model asked for `beside` the policy, by its name. A function with an attribute `gradient` of the same arguments, returning (values, d value / d logits
[n, vocabulary]), is not differentiated by autograd where the head is frozen."""

Beside = tuple[Tensor, Callable[[Tensor], Tensor]]
"""Another model's states [kept, any], and what turns a chunk of them into logits."""

CHUNK_ROWS = 128
"""Positions whose logits are computed at once: enough for full-speed products, few enough for a processor's caches."""
CHUNK_ELEMENTS = 1 << 23
"""Where the vocabulary is large, rows x vocabulary of a chunk stays below this many elements."""
KERNEL_ROWS = 32
"""A processor's short-format products keep a compiled kernel for every number of rows, which is rounded up to this."""


class Policy(nn.Module):
    """A causal language model: one module whose forward alone runs body, head and token function.

    `model` is any transformers causal language model; `autocast` is the dtype its arithmetic runs in where float32
    weights take part (None: as the weights are). `plain_head` says that the head is one linear layer on the body's
    last hidden state (proven when the model is loaded); otherwise logits come from the model's own forward.
    """

    def __init__(self, model: Any, *, plain_head: bool = True, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model = model
        self.plain_head = plain_head
        self.autocast = autocast
        self._reference: Callable[[], AbstractContextManager[None]] | None = None
        self._others: dict[str, Policy] = {}
        self._at_start = False
        self.listeners: list[Callable[[Batch], None]] = []
        """Told of every batch before the body runs on it: what the model sees has no mark of padding."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def forward(
        self,
        batch: Batch,
        function: TokenFunction,
        columns: Mapping[str, Tensor] | None = None,
        beside: Sequence[str] = (),
        across: Batch | None = None,
    ) -> Tensor:
        """Values float32 [kept] of `function` at the batch's kept tokens, in the order of `batch.kept`.

        `columns` [kept] are handed to the function beside logits and targets, and so are, chunk by chunk and without
        gradient, the logits of the models named in `beside`: `reference`, or one that was `supply`-ed. Gradients reach
        every trained parameter of body and head. Those models read the batch too, or `across`, whose kept tokens are the
        same in number and order.
        """
        rows, cols = batch.kept
        targets, given = batch.ids[rows, cols], dict(columns or {})
        theirs = batch if across is None else across
        at, behind = theirs.kept
        others = {name: self._beside(name, theirs, at, behind - 1) for name in beside}
        with self.computing():
            if not self.plain_head:
                logits = self._own_logits(batch, rows, cols - 1)
                with torch.no_grad():
                    given |= {name: head(states) for name, (states, head) in others.items()}
                return function(logits, targets, given)
            hidden = self._body(batch)[rows, cols - 1]
            return _at_head(self.head, hidden, targets, given, function, others)

    def at_head(
        self, hidden: Tensor, targets: Tensor, columns: Mapping[str, Tensor], function: TokenFunction
    ) -> Tensor:
        """Values float32 [n] of `function` at the logits of any hidden states [n, hidden], chunk by chunk.

        Raises `BadInput` for a model whose logits are not its head applied to the last hidden state.
        """
        if not self.plain_head:
            raise BadInput(
                "the objective works on hidden states, and this model's logits are more than its head applied to them",
                field="objective",
                found=type(self.model).__name__,
            )
        with self.computing():
            return _at_head(self.head, hidden, targets, columns, function, {})

    def run(self, **inputs: Any) -> Any:
        """The model's own forward, as generation calls it: through the policy, which gathers sharded weights."""
        return self.model(**inputs)

    def hidden(self, batch: Batch) -> Tensor:
        """The body's last hidden states [rows, width, hidden]."""
        with self.computing():
            return self._body(batch)

    def logprobs(self, batch: Batch) -> Tensor:
        """log p(token | tokens before it) float32 [kept] at the kept tokens."""
        return -self(batch, cross_entropy)

    def logits(self, batch: Batch, rows: Tensor, cols: Tensor) -> Tensor:
        """Logits [n, vocabulary] that the positions (rows, cols) give for the token after them."""
        with self.computing():
            if not self.plain_head:
                return self._own_logits(batch, rows, cols)
            return self.head(self._body(batch)[rows, cols])

    @property
    def head(self) -> nn.Module:
        """The layer from hidden states to logits."""
        head: nn.Module = self.model.get_output_embeddings()
        return head

    @contextmanager
    def reference(self) -> Iterator[Policy]:
        """The policy to stay close to, without gradients: a model supplied as `reference`, or the same weights with
        the adapter off, at no further memory."""
        if "reference" in self._others:
            with torch.no_grad():
                yield self._others["reference"]
            return
        with self.start():
            yield self

    @contextmanager
    def start(self) -> Iterator[Policy]:
        """The policy as the run began, with the adapter off, without gradients. It may be open within itself."""
        if self._reference is None:
            raise RuntimeError("no reference is set; attach an adapter through the pipeline first")
        if self._at_start:
            with torch.no_grad():
                yield self
            return
        self._at_start = True
        try:
            with torch.no_grad(), self._reference():
                yield self
        finally:
            self._at_start = False

    @property
    def at_start(self) -> bool:
        """Whether `start` is open: what computes now is the model before tuning."""
        return self._at_start

    def set_reference(self, disabled: Callable[[], AbstractContextManager[None]]) -> None:
        """Sets what switches the adapter off; the pipeline calls it with the adapter's `disabled`."""
        self._reference = disabled

    def supply(self, name: str, other: Policy) -> None:
        """Sets another model (`reference`, `teacher`) that objectives may compute beside this one."""
        self._others[name] = other

    def other(self, name: str) -> Policy:
        """The model supplied under `name`."""
        return self._others[name]

    def computing(self) -> AbstractContextManager[Any]:
        """The context in which the model computes: autocast where float32 weights meet a shorter format."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)

    def _tell(self, batch: Batch) -> None:
        for listener in self.listeners:
            listener(batch)

    def _body(self, batch: Batch) -> Tensor:
        self._tell(batch)
        body = self.model.base_model
        positions = {"position_ids": batch.positions} if "position_ids" in _arguments(type(body)) else {}
        # Padding stands on the right, so causal attention alone keeps it away from what is kept.
        out: Tensor = body(input_ids=batch.ids, use_cache=False, **positions).last_hidden_state
        return out

    @torch.no_grad()
    def _beside(self, name: str, batch: Batch, rows: Tensor, cols: Tensor) -> Beside:
        """States [n, any] of another model at (rows, cols), and what turns a chunk of them into logits."""
        if name != "reference" or name in self._others:
            other = self._others[name]

            def theirs(states: Tensor) -> Tensor:
                with other.computing():
                    return other.head(states)

            if not other.plain_head:
                return other.logits(batch, rows, cols), lambda states: states
            return other.hidden(batch)[rows, cols], theirs

        def own(states: Tensor) -> Tensor:
            with self.reference(), self.computing():
                return self.head(states)

        with self.reference(), self.computing():
            if not self.plain_head:
                return self._own_logits(batch, rows, cols), lambda states: states
            return self._body(batch)[rows, cols], own

    def _own_logits(self, batch: Batch, rows: Tensor, cols: Tensor) -> Tensor:
        self._tell(batch)
        taken = _arguments(type(self.model))
        positions = {"position_ids": batch.positions} if "position_ids" in taken else {}
        if "logits_to_keep" not in taken:
            logits: Tensor = self.model(input_ids=batch.ids, use_cache=False, **positions).logits
            return logits[rows, cols]
        union, inverse = torch.unique(cols, return_inverse=True)
        logits = self.model(input_ids=batch.ids, use_cache=False, logits_to_keep=union, **positions).logits
        return logits[rows, inverse]


class CrossEntropy:
    """-log softmax(logits)[target], with its gradient in closed form: softmax(logits) - onehot(target)."""

    def __call__(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(logits.float(), targets, reduction="none")

    def gradient(self, logits: Tensor, targets: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Values [n] and their gradient with respect to the logits [n, vocabulary]."""
        log = torch.log_softmax(logits, -1, dtype=torch.float32)
        values = -log.gather(-1, targets[:, None])[:, 0]
        softmax = log.exp_()
        softmax.scatter_add_(-1, targets[:, None], softmax.new_full((len(targets), 1), -1.0))
        return values, softmax.to(logits.dtype)


cross_entropy = CrossEntropy()


def _at_head(
    head: nn.Module,
    hidden: Tensor,
    targets: Tensor,
    columns: Mapping[str, Tensor],
    function: TokenFunction,
    others: Mapping[str, Beside],
) -> Tensor:
    parts = _chunks(hidden, targets, columns, head, others)
    if any(p.requires_grad for p in head.parameters()) and torch.is_grad_enabled():
        run = lambda h, t, c: function(head(h), t, c)
        values = [checkpoint(run, h, t, c, use_reentrant=False) for h, t, c in parts]
    elif hidden.requires_grad and torch.is_grad_enabled():
        return _FrozenHead.apply(hidden, head, targets, columns, function, others)
    else:
        values = [function(head(h), t, c) for h, t, c in parts]
    return torch.cat(values)


class _FrozenHead(torch.autograd.Function):
    """Values at a frozen head; their gradient to the hidden states is computed in the forward pass.

    Value i depends on hidden row i alone, so the backward pass is a product with the incoming gradient, row by row.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: nn.Module,
        targets: Tensor,
        columns: Mapping[str, Tensor],
        function: Any,
        others: Mapping[str, Beside],
    ) -> Tensor:
        values = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        done = 0
        for h, t, c in _chunks(hidden.detach(), targets, columns, head, others):
            part = slice(done, done + len(h))
            with torch.enable_grad():
                leaf = h.requires_grad_()
                logits = _logits(head, leaf)
                if hasattr(function, "gradient"):
                    with torch.no_grad():
                        values[part], at_logits = function.gradient(logits.detach(), t, c)
                    (gradient[part],) = torch.autograd.grad(logits, leaf, at_logits)
                else:
                    out = function(logits, t, c)
                    (gradient[part],) = torch.autograd.grad(out.sum(), leaf)
                    values[part] = out.detach()
            done += len(h)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * incoming[0][:, None].to(gradient.dtype), None, None, None, None, None


def _logits(head: nn.Module, hidden: Tensor) -> Tensor:
    """The head at hidden states [n, hidden]."""
    short = hidden.device.type == "cpu" and hidden.dtype == torch.bfloat16
    missing = -len(hidden) % KERNEL_ROWS if short else 0
    logits: Tensor = head(F.pad(hidden, (0, 0, 0, missing)) if missing else hidden)
    return logits[: len(hidden)]


def _chunks(
    hidden: Tensor, targets: Tensor, columns: Mapping[str, Tensor], head: nn.Module, others: Mapping[str, Beside]
) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    vocabulary = getattr(head, "out_features", None) or _rows(head)
    size = max(1, min(CHUNK_ROWS, CHUNK_ELEMENTS // vocabulary))
    # One chunk even of nothing, so that a batch without weight has a graph to head and body.
    for start in range(0, max(1, len(hidden)), size):
        part = slice(start, start + size)
        given = {name: column[part] for name, column in columns.items()}
        with torch.no_grad():
            given |= {name: logits(states[part]) for name, (states, logits) in others.items()}
        yield hidden[part], targets[part], given


def _arguments(cls: type[nn.Module]) -> Mapping[str, Any]:
    return inspect.signature(cls.forward).parameters


def _rows(head: nn.Module) -> int:
    weight: Any = head.weight
    return int(weight.shape[0])
