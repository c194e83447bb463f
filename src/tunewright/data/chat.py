"""Conversations as text: the tokenizer's chat template or the default one, and where each turn stands in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tunewright.data.records import Record, Turn
from tunewright.errors import BadInput

DEFAULT = """\
{%- if tools %}{{ 'Tools:' }}{% for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}{{ '\\n\\n' }}{% endif %}
{%- for message in messages %}
{%- if not loop.first %}{{ '\\n\\n' }}{% endif %}
{{- message.role | capitalize + ':\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}
{%- if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n' }}{% endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}{{ '<tool_call>' + call.function | tojson + '</tool_call>' }}{% endfor %}
{{- eos_token }}
{%- endgeneration %}
{%- else %}{{ message.content }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\n\\n' if messages else '' }}{{ 'Assistant:\\n' }}{% endif %}"""
"""The template for checkpoints that have none.

Each turn is its role and a colon on a line of its own, then the text; a blank line stands between turns. An assistant
turn ends with the tokenizer's end token, and that is what generation stops at. No other special token is used.
"""

Span = tuple[int, int]
Messages = Sequence[Mapping[str, Any]]

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Chat:
    """A chat template applied to records.

    `marked` says whether the template marks what the assistant says (`{% generation %}`).
    """

    def __init__(self, tokenizer: Any, template: str, is_default: bool) -> None:
        self.is_default = is_default
        self._template = template
        self._tokens = tokenizer.special_tokens_map
        self._special_texts = tuple(
            token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content
        )
        self.marked = _MARKS.search(template) is not None

    def whole(self, record: Record) -> tuple[str, list[Span]]:
        """The conversation as text, and the characters that the template marks as said by the assistant."""
        text, spans = self._render(record, self._messages(record))
        return text, [(start, end) for start, end in spans if start < end]

    def asked(self, record: Record) -> str:
        """The text from which the last turn is generated."""
        return self._render(record, self._messages(record)[:-1], ask=True)[0]

    def span(self, record: Record, index: int, text: str) -> Span | None:
        """Where turn `index` stands in the whole `text`: None when the template breaks the prefix property there.

        The property: what the template writes for the first turns is what the whole conversation begins with. An
        assistant turn begins behind what generation starts from; where the template opens a generated answer with more
        than the conversation holds, behind the part that both share.
        """
        messages, speaks = self._messages(record), record.turns[index].role == "assistant"
        try:
            through = text if index + 1 == len(messages) else self._render(record, messages[: index + 1])[0]
            start = self._start(record, messages[:index], speaks, text)
        except BadInput:
            return None
        if start is None or not text.startswith(through) or len(through) < start:
            return None
        return self._trimmed(text, start, len(through)) if speaks else (start, len(through))

    def _start(self, record: Record, before: Messages, speaks: bool, text: str) -> int | None:
        """Where the turn behind the messages `before` begins."""
        asked = self._render(record, before, ask=speaks)[0] if before or speaks else ""
        if text.startswith(asked):
            return len(asked)
        bare = self._render(record, before)[0] if before and speaks else asked
        shared = shared_length(asked, text)
        return shared if text.startswith(bare) and shared >= len(bare) else None

    def _trimmed(self, text: str, start: int, end: int) -> Span:
        """The turn up to its end token, without the blanks between turns."""
        said = text[start:end].rstrip()
        return (start, start + len(said)) if said.endswith(self._special_texts) else (start, end)

    def _messages(self, record: Record) -> list[dict[str, Any]]:
        return [_in_parts(turn.message()) if self._wants_parts else turn.message() for turn in record.turns]

    @cached_property
    def _wants_parts(self) -> bool:
        """Whether the template writes what is said only when it comes as a list of parts, as with images among them.

        Raises `BadInput` when it writes it in neither form.
        """
        says = [Turn("user", "Question"), Turn("assistant", "Answer")]
        sample, silent = Record(tuple(says), "chat"), False
        for change in (dict, _in_parts):
            try:
                text = self._render(sample, [change(turn.message()) for turn in says])[0]
            except BadInput:
                continue
            if all(turn.content in text for turn in says):
                return change is _in_parts
            silent = True
        if silent:
            raise BadInput(
                "the chat template leaves out what is said", field="template", found=self._template[:60],
                hint="Set 'template: default', or name another under 'model: {chat_template: FILE}'.",
            )  # fmt: skip
        return False

    def _render(self, record: Record, messages: Messages, ask: bool = False) -> tuple[str, list[Span]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            texts, spans = render_jinja_template(
                conversations=[list(messages)], tools=[dict(tool) for tool in record.tools] or None,
                chat_template=self._template, return_assistant_tokens_mask=self.marked, add_generation_prompt=ask,
                **self._tokens,
            )  # fmt: skip
        except Exception as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            raise BadInput(
                f"the chat template refuses this conversation: {error}", file=record.file, line=record.line,
                found=f"a conversation of {roles or 'no turns'}", hint="Set 'template: default', or mend the row.",
            ) from None  # fmt: skip
        return texts[0], [(start, end) for start, end in spans[0]] if spans else []


def shared_length(one: str, other: str) -> int:
    """How many characters both texts begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}
