"""The power schedule: the rate follows the tokens seen, not the planned length."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from tunewright.catalog import Paper, option
from tunewright.hooks import Hook
from tunewright.optimize.schedules.base import Schedule

if TYPE_CHECKING:
    from tunewright.train.loop import Loop


class Power(Schedule):
    """Falls with a power of the tokens seen, scaled by the batch size, then fast over the last part of the run.

    With n the tokens after a step and beta the sequences per step: P(n) = min(1, beta amplitude n^exponent). During
    the rise factor = (n / n_rise) P(n_rise), then P(n); over the last `decay` share of the run's tokens it is P at the
    start of that part times final_ratio^u, or 1 - u, with u from 0 to 1 after the last step. With the rise given as
    steps, what comes before the decay does not depend on the length of the run. `factor` alone knows no tokens: it is
    the case in which the cap of 1 holds throughout.

    `optimizer.lr` is the paper's eta_max = 0.02 and `amplitude` its a / eta_max = 4 / 0.02; with these and 64
    sequences the cap holds for 1.1e8 tokens, so for a short run refit: only beta amplitude n^exponent matters.

    When to use: the number of tokens is not known beforehand, or one setting should serve several batch sizes. When
    not: a single short run of known length.
    """

    name: ClassVar[str] = "power"
    papers: ClassVar[tuple[Paper, ...]] = (
        Paper(
            title="Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler",
            arxiv="2408.13359",
            card=198,
        ),
    )

    amplitude: float = option(
        200.0, "Factor for one sequence per step after one token, before the cap.", changes="loss", to=0.5, gt=0
    )
    exponent: float = option(
        -0.51, "Power of the tokens seen.", changes="loss", to=-1.0, given={"schedule.amplitude": 0.5}, lt=0
    )
    decay: float = option(
        0.1, "Share of the run's tokens over which the rate falls at the end; 0 for never.",
        changes="loss", to=0.5, ge=0, le=1,
    )  # fmt: skip
    ending: Literal["exponential", "linear"] = option(
        "exponential", "How it falls at the end: to `final_ratio` or to 0.", changes="loss", to="linear",
        given={"schedule.decay": 0.5},
    )  # fmt: skip
    final_ratio: float = option(
        0.01, "What is left of the rate after an exponential fall.", changes="loss", to=0.5,
        given={"schedule.decay": 0.5}, gt=0, le=1,
    )  # fmt: skip

    def after(self, step: int, total: int) -> float:
        return self._fall(step / total)

    def hook(self) -> Hook:
        return _Tokens(self)

    def at(self, step: int, total: int, tokens: float, sequences: float) -> float:
        """The factor at `step` of `total` steps of `tokens` tokens and `sequences` sequences each."""
        rise = round(self.warmup * total) if self.warmup < 1 else round(self.warmup)
        if step < rise:
            return (step + 1) / rise * self._power(rise * tokens, sequences)
        start = rise + (1 - self.decay) * (total - rise)
        before = min(float(step + 1), start)
        return self._power(max(before, 1.0) * tokens, sequences) * self._fall((step - rise) / max(1, total - rise))

    def _power(self, seen: float, sequences: float) -> float:
        return min(1.0, sequences * self.amplitude * float(seen**self.exponent))

    def _fall(self, progress: float) -> float:
        """The share that the ending leaves, by progress after the rise."""
        if self.decay == 0:
            return 1.0
        u = max(0.0, (progress - (1 - self.decay)) / self.decay)
        return float(self.final_ratio**u) if self.ending == "exponential" else 1 - u


class _Tokens(Hook):
    """Gives the loop the schedule over the tokens and sequences that its plan has per step."""

    def __init__(self, schedule: Power) -> None:
        self.schedule = schedule

    def on_start(self, loop: Loop) -> None:
        tokens = float(loop.plan.tokens_per_step)
        loop.factor = partial(self.schedule.at, tokens=tokens, sequences=tokens / float(loop.plan.lengths.mean()))
