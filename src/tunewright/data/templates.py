"""The one renderer: records to token ids and loss weights, the same for training, evaluation and serving."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from tunewright.data import unsaid
from tunewright.data.chat import DEFAULT, Chat, Span, shared_length
from tunewright.data.encoding import Encoder, Offsets
from tunewright.data.records import Record, Turn
from tunewright.errors import BadInput
from tunewright.recipe import Reading


@dataclass(frozen=True, slots=True)
class Rendered:
    """A record as tokens.

    `ids` [n]; `weights` [n], the loss weight of predicting each token from those before it (the first: 0). `clean` is
    False when a token reaches over the boundary between a prompt and its answer, so that generation from the prompt
    would see other tokens than training did. `columns` [n] each, further values per token.
    """

    ids: list[int]
    weights: list[float]
    clean: bool = True
    columns: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def prompt_length(self) -> int:
        """Tokens before the first trained one (all of them when none is trained)."""
        return next((index for index, weight in enumerate(self.weights) if weight), len(self.ids))

    @property
    def trained(self) -> int:
        """Number of tokens that carry loss."""
        return len(self.weights) - self.weights.count(0.0)


class Renderer:
    """Records to tokens by one tokenizer and the options of one source.

    How a record becomes text:

    | rows                           | tokenizer has a chat template | it has none      | `template: none`  |
    |--------------------------------|-------------------------------|------------------|-------------------|
    | messages, ShareGPT, chat pairs | the template                  | default template | joined verbatim   |
    | Alpaca, question/answer        | the template                  | default template | joined verbatim   |
    | prompt/completion, text pairs  | the template                  | joined verbatim  | joined verbatim   |
    | classification                 | joined verbatim               | joined verbatim  | joined verbatim   |
    | plain text                     | as it is                      | as it is         | as it is          |

    `template: tokenizer` and `template: default` take that template for every row but plain text. Verbatim rows and
    plain text begin with the special tokens that the tokenizer itself puts in front, and end with the end token (once);
    each turn is tokenised as the continuation of what stands before it, so the prompt's tokens are what generation
    starts from. Text made by the tokenizer's template gets no special tokens but those the template writes.

    Weights: `train_on` says which turns weigh 1; a turn's own weight overrides it; the record's and the source's loss
    weight multiply it. `completion` means every assistant turn of a conversation, but the last one alone where the
    row judges an answer (pairs, unpaired labels). An assistant turn includes its end token. Where an assistant turn
    stands is read from the template's generation marks, else from the prefix property (see `Chat.span`); with neither,
    the row is refused with the reason.
    """

    def __init__(self, tokenizer: Any, reading: Reading, encoder: Encoder | None = None) -> None:
        self.reading = reading
        self.encoder = encoder or Encoder(tokenizer)
        self._scale: float = getattr(reading, "loss_weight", 1.0)
        self._has_own = bool(getattr(tokenizer, "chat_template", None))
        if reading.template == "tokenizer" and not self._has_own:
            raise BadInput(
                "the tokenizer has no chat template", field="template", found="tokenizer",
                expected="auto, default or none", hint="Name a Jinja file under 'model: {chat_template: FILE}'.",
            )  # fmt: skip
        own = reading.template == "tokenizer" or (reading.template == "auto" and self._has_own)
        self._chat = Chat(tokenizer, tokenizer.get_chat_template() if own else DEFAULT, is_default=not own)

    def template(self, record: Record) -> str:
        """What makes the record's text, in words."""
        if record.style == "text":
            return "the text as it is"
        if self.mode(record) == "verbatim":
            return "none: turns are joined verbatim"
        return "the default template" if self._chat.is_default else "the tokenizer's own chat template"

    def mode(self, record: Record) -> Literal["chat", "verbatim"]:
        """Whether a chat template makes the record's text, or its turns are joined as they are."""
        template = self.reading.template
        if template == "none" or record.style == "text":
            return "verbatim"
        if record.style == "chat" or template in ("tokenizer", "default"):
            return "chat"
        return "chat" if self._has_own and not isinstance(record.label, str) else "verbatim"

    def render(self, record: Record) -> Rendered:
        """Tokens and weights of a record. Raises `BadInput` naming its file and line when it cannot be rendered."""
        return self.render_many([record])[0]

    def render_many(self, records: Sequence[Record]) -> list[Rendered]:
        """`render` for many records at once, which is faster."""
        made: list[Rendered | None] = [None] * len(records)
        for mode, render in (("chat", self._chats), ("verbatim", self._verbatims)):
            chosen = [index for index, record in enumerate(records) if self.mode(record) == mode]
            for index, rendered in zip(chosen, render([records[index] for index in chosen]), strict=True):
                made[index] = rendered
        return [self._checked(rendered, record) for rendered, record in zip(made, records, strict=True) if rendered]

    def prompt(self, record: Record) -> list[int]:
        """The tokens from which the last turn is generated: those that `render` puts before it."""
        if self.mode(record) == "chat":
            return self._opening + self.encoder.ids([self._chat.asked(_as_chat(record))])[0]
        texts = [turn.content for turn in record.prompt]
        return self.encoder.prefix + [index for ids in self._pieces([texts])[0] for index in ids]

    def text(self, record: Record) -> str:
        """The whole record as one string, special tokens written out."""
        return str(self.encoder.tokenizer.decode(self.render(record).ids, skip_special_tokens=False))

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """The ids at which generation ends: the end token, and the token with which the template ends a turn."""
        after = self._sample.rpartition("A")[2] if self._sample else ""
        ends = [index for index in self.encoder.ids([after])[0] if index in self.encoder.specials]
        return tuple(dict.fromkeys([self.encoder.eos, *ends[:1]]))

    @cached_property
    def writes_two_bos(self) -> bool:
        """Whether the tokenizer's own template begins with two BOS tokens."""
        return bool(self._sample) and self.encoder.ids([self._sample])[0][:2] == [self.encoder.bos] * 2

    @cached_property
    def drops_opening(self) -> bool:
        """Whether the tokenizer's own template lacks the special tokens that the tokenizer puts before a text."""
        prefix = self.encoder.prefix
        return bool(self._sample) and self.encoder.ids([self._sample])[0][: len(prefix)] != prefix

    @cached_property
    def opens_otherwise(self) -> str:
        """What the tokenizer's own template puts before a generated answer, but not before one in a conversation."""
        try:
            asked = self._chat.asked(_SAMPLE) if self._sample else ""
        except BadInput:
            return ""
        return "" if self._sample.startswith(asked) else asked[shared_length(asked, self._sample) :]

    def unsaid(self, record: Record) -> frozenset[str]:
        """The parts of a record, in words, that the template drops without refusing them."""
        return unsaid.parts(record) & self._left_out if self.mode(record) == "chat" else frozenset()

    @cached_property
    def _left_out(self) -> frozenset[str]:
        return unsaid.left_out(lambda record: self._chat.whole(record)[0])

    @cached_property
    def _sample(self) -> str:
        """A short conversation by the tokenizer's own template; empty when that is not in use."""
        if self._chat.is_default or self.reading.template == "none":
            return ""
        try:
            return self._chat.whole(_SAMPLE)[0]
        except BadInput:
            return ""

    @property
    def _opening(self) -> list[int]:
        return self.encoder.prefix if self._chat.is_default else []

    def _turn_weights(self, record: Record) -> tuple[float, list[float]]:
        """The weight of text outside the turns, and of each turn."""
        judged = record.rejected is not None or isinstance(record.label, bool)
        which = "last_turn" if judged and self.reading.train_on == "completion" else self.reading.train_on
        scale = record.weight * self._scale
        last = len(record.turns) - 1

        def own(index: int, turn: Turn) -> float:
            if turn.weight is not None:
                return turn.weight
            return float(which == "all" or (turn.role == "assistant" and (which != "last_turn" or index == last)))

        return scale * (which == "all"), [scale * own(index, turn) for index, turn in enumerate(record.turns)]

    def _verbatims(self, records: Sequence[Record]) -> list[Rendered]:
        made = []
        pieces = self._pieces([[turn.content for turn in record.turns] for record in records])
        end = [self.encoder.eos]
        for record, parts in zip(records, pieces, strict=True):
            _, turn_weights = self._turn_weights(record)
            around = turn_weights[0] if record.style == "text" or self.reading.train_on == "all" else 0.0
            ids, weights = list(self.encoder.prefix), [around] * len(self.encoder.prefix)
            for part, weight in zip(parts, turn_weights, strict=True):
                ids += part
                weights += [weight] * len(part)
            ended = ids[-1:] == end
            made.append(Rendered(ids if ended else ids + end, weights if ended else weights + turn_weights[-1:]))
        return made

    def _pieces(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Token ids of each text's pieces; a piece that is not the first is tokenised as a continuation."""
        first = [next((index for index, piece in enumerate(pieces) if piece), 0) for pieces in texts]
        opening = self.encoder.ids(
            [pieces[start] if pieces else "" for pieces, start in zip(texts, first, strict=True)]
        )
        later = iter(
            self.encoder.continued([p for pieces, start in zip(texts, first, strict=True) for p in pieces[start + 1 :]])
        )
        return [
            [[] for _ in pieces[:start]] + [ids for _ in pieces[:1]] + [next(later) for _ in pieces[start + 1 :]]
            for pieces, start, ids in zip(texts, first, opening, strict=True)
        ]

    def _chats(self, records: Sequence[Record]) -> list[Rendered]:
        records = [_as_chat(record) for record in records]
        texts, spans = [], []
        for record in records:
            text, found = self._spans(record)
            texts.append(text)
            spans.append(found)
        made = []
        for record, parts, (ids, offsets) in zip(records, spans, self.encoder.with_offsets(texts), strict=True):
            outside, _ = self._turn_weights(record)
            weights, clean = _spread(len(ids), offsets, parts, outside)
            made.append(Rendered(self._opening + ids, [outside] * len(self._opening) + weights, clean))
        return made

    def _spans(self, record: Record) -> tuple[str, list[tuple[Span, float]]]:
        """The record's text, and characters and weight of each turn that does not weigh what its surroundings do."""
        text, marked = self._chat.whole(record)
        outside, weights = self._turn_weights(record)
        speaking = [index for index, turn in enumerate(record.turns) if turn.role == "assistant"]
        own = _by_turn(marked, len(speaking))
        spans: dict[int, Span] = dict(zip(speaking, own, strict=True)) if own else {}
        found: list[tuple[Span, float]] = []
        if marked and not own and len(alike := {weights[index] for index in speaking}) == 1:
            # Which mark belongs to which turn does not show, and does not matter.
            found = [(span, weight) for span in marked for weight in alike - {outside}]
            weights = [outside if index in speaking else weight for index, weight in enumerate(weights)]
        for index, weight in enumerate(weights):
            if weight == outside:
                continue
            span = spans.get(index) or self._chat.span(record, index, text)
            if span is None:
                raise self._unplaced(record, index)
            found.append((span, weight))
        return text, found

    def _unplaced(self, record: Record, index: int) -> BadInput:
        last = index == len(record.turns) - 1
        return BadInput(
            f"the chat template does not show where turn {index + 1} ({record.turns[index].role}) stands: it has no"
            " generation marks there, and what it writes for the turns before is not what the whole conversation"
            " begins with", file=record.file, line=record.line, field="train_on", found=self.reading.train_on,
            hint="Set 'train_on: all' or 'template: default', or name a template with generation marks under"
            " 'model: {chat_template: FILE}'." if last else
            "Set 'train_on: last_turn', or name a template with {% generation %} marks under"
            " 'model: {chat_template: FILE}'.",
        )  # fmt: skip

    def _checked(self, rendered: Rendered, record: Record) -> Rendered:
        if rendered.weights:
            rendered.weights[0] = 0.0
        bos = self.encoder.bos
        doubled = len(rendered.ids) > 1 and rendered.ids[0] == rendered.ids[1] == bos
        if doubled and not self.writes_two_bos:
            raise BadInput(
                "two BOS tokens in a row", file=record.file, line=record.line,
                found=self.encoder.name(rendered.ids[0]) * 2, expected="one BOS token",
                hint="The text itself begins with the token: remove it there.",
            )  # fmt: skip
        return rendered


_SAMPLE = Record((Turn("user", "Q"), Turn("assistant", "A")), "chat")


def _as_chat(record: Record) -> Record:
    """A record for a chat template: the blank that joins a class to its prompt is not part of the turn."""
    if not isinstance(record.label, str):
        return record
    plain = lambda turn: replace(turn, content=turn.content.lstrip()) if turn.role == "assistant" else turn
    return replace(record, turns=tuple(map(plain, record.turns)))


def _by_turn(marked: list[Span], turns: int) -> list[Span] | None:
    """One marked span per turn, where marks that touch belong together; None when they cannot be told apart."""
    joined: list[Span] = []
    for start, end in marked:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return next((spans for spans in (marked, joined) if len(spans) == turns), None)


def _spread(
    count: int, offsets: Offsets, spans: Iterable[tuple[Span, float]], outside: float
) -> tuple[list[float], bool]:
    """Weights [count] of tokens from the weights of characters; False when a token reaches over a span's start."""
    weights, clean = [outside] * count, True
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    for (begin, end), weight in spans:
        first, beyond = bisect_right(ends, begin), bisect_left(starts, end)
        weights[first:beyond] = [weight] * (beyond - first)
        clean &= not (first < count and starts[first] < begin)
    return weights, clean


def renderers(tokenizer: Any, readings: Iterable[Reading]) -> tuple[Renderer, ...]:
    """One renderer per source, over one tokenizer."""
    encoder = Encoder(tokenizer)
    return tuple(Renderer(tokenizer, reading, encoder) for reading in readings)
