"""Records become the tokens that training, evaluation and serving share, with the weights that were asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from data_samples import BROKEN, BROKEN_MARKED, MARKED, OPENED, STRICT, UNMARKED, wrapped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewright.data.cache import packed, unpacked
from tunewright.data.chat import DEFAULT
from tunewright.data.records import Record, Turn
from tunewright.data.templates import Renderer
from tunewright.errors import BadInput
from tunewright.recipe import Reading, SourceSpec

SINGLE = Record((Turn("user", "What is it?"), Turn("assistant", "It is four.")), "chat")
TALK = Record(
    (
        Turn("system", "Be kind."),
        Turn("user", "Hello!"),
        Turn("assistant", "How can I help?"),
        Turn("user", "What is two plus two?"),
        Turn("assistant", "It is four."),
    ),
    "chat",
    file="talk.jsonl",
    line=7,
)
PAIR = Record((Turn("user", "two plus two is"), Turn("assistant", " four")), "completion")
CLASS = replace(PAIR, turns=(Turn("user", "text\nLabel:"), Turn("assistant", " positive")), label="positive")


def weighed(rendered, tokenizer):
    """The text that carries loss, run by run, and the weight of each run."""
    runs, last = [], 0.0
    for index, weight in zip(rendered.ids, rendered.weights, strict=True):
        if weight and weight == last:
            runs[-1][0].append(index)
        elif weight:
            runs.append(([index], weight))
        last = weight
    return [(tokenizer.decode(ids), weight) for ids, weight in runs]


@pytest.mark.parametrize("template", [MARKED, BROKEN_MARKED, DEFAULT])
@pytest.mark.parametrize("record", [SINGLE, TALK], ids=["single", "talk"])
def test_weights_are_the_assistant_mask_of_the_template(template, record, templated):
    tokenizer = templated(template)
    rendered = Renderer(tokenizer, Reading()).render(record)
    expected = tokenizer.apply_chat_template(
        [turn.message() for turn in record.turns], return_assistant_tokens_mask=True, return_dict=True
    )
    assert rendered.ids == expected["input_ids"]
    assert rendered.weights == [float(bit) for bit in expected["assistant_masks"]]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="<>"), min_size=1), min_size=1, max_size=3)
)
def test_marks_and_prefixes_agree_whatever_is_said(said, templated):
    turns = [turn for text in said for turn in (Turn("user", text[::-1]), Turn("assistant", text))]
    record = Record(tuple(turns), "chat")
    marked, unmarked = (Renderer(templated(template), Reading()).render(record) for template in (MARKED, UNMARKED))
    assert marked == unmarked


def test_without_marks_the_prefix_property_places_the_turns(templated):
    tokenizer = templated(UNMARKED)
    rendered = Renderer(tokenizer, Reading()).render(TALK)
    assert weighed(rendered, tokenizer) == [("How can I help?<|im_end|>", 1.0), ("It is four.<|im_end|>", 1.0)]


def test_without_either_all_turns_are_refused_and_the_last_one_is_not(templated):
    tokenizer = templated(BROKEN)
    with pytest.raises(BadInput, match=r"talk\.jsonl:7: field 'train_on'.*turn 3 .*generation marks.*last_turn"):
        Renderer(tokenizer, Reading(train_on="all_turns")).render(TALK)
    last = Renderer(tokenizer, Reading(train_on="last_turn")).render(TALK)
    assert weighed(last, tokenizer) == [("<think></think>It is four.<|im_end|>", 1.0)]
    assert Renderer(tokenizer, Reading()).render(SINGLE).trained


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("completion", ["How can I help?<|im_end|>", "It is four.<|im_end|>"]),
        ("all_turns", ["How can I help?<|im_end|>", "It is four.<|im_end|>"]),
        ("last_turn", ["It is four.<|im_end|>"]),
    ],
)
def test_train_on(train_on, expected, templated):
    tokenizer = templated(UNMARKED)
    rendered = Renderer(tokenizer, Reading(train_on=train_on)).render(TALK)
    assert [text for text, _ in weighed(rendered, tokenizer)] == expected


@pytest.mark.parametrize("record", [TALK, PAIR, CLASS, Record((Turn("assistant", "text"),), "text")])
def test_train_on_all_weighs_every_token_but_the_first(record, templated):
    rendered = Renderer(templated(UNMARKED), Reading(train_on="all")).render(record)
    assert rendered.weights == [0.0] + [1.0] * (len(rendered.ids) - 1)


def test_judged_rows_train_their_last_turn(templated):
    renderer = Renderer(templated(UNMARKED), Reading())
    for judged in (replace(TALK, rejected=TALK.turns), replace(TALK, label=True)):
        assert [text for text, _ in weighed(renderer.render(judged), renderer.encoder.tokenizer)] == [
            "It is four.<|im_end|>"
        ]


def test_weights_multiply(templated):
    tokenizer = templated(UNMARKED)
    turns = [
        replace(turn, weight=weight) for turn, weight in zip(TALK.turns, (None, 0.25, 0.5, None, None), strict=True)
    ]
    record = replace(TALK, turns=tuple(turns), weight=2.0)
    rendered = Renderer(tokenizer, SourceSpec(path="x", loss_weight=3.0)).render(record)
    asked, helped, answered = weighed(rendered, tokenizer)
    assert (helped, answered) == (("How can I help?<|im_end|>", 3.0), ("It is four.<|im_end|>", 6.0))
    assert asked[1] == 1.5
    assert "Hello!" in asked[0]


def test_a_turn_can_be_left_out_of_all(templated):
    tokenizer = templated(UNMARKED)
    record = replace(TALK, turns=(*TALK.turns[:3], replace(TALK.turns[3], weight=0.0), TALK.turns[4]))
    said = "".join(text for text, _ in weighed(Renderer(tokenizer, Reading(train_on="all")).render(record), tokenizer))
    assert "two plus two" not in said
    assert "Be kind." in said


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
@pytest.mark.parametrize("template", [None, UNMARKED, MARKED])
@pytest.mark.parametrize("record", [SINGLE, TALK, PAIR, CLASS], ids=["single", "talk", "pair", "class"])
def test_generation_starts_from_the_tokens_training_saw(kind, template, record, request):
    renderer = Renderer(wrapped(request.getfixturevalue(kind), template), Reading())
    prompt, rendered = renderer.prompt(record), renderer.render(record)
    assert rendered.ids[: len(prompt)] == prompt
    if record is not TALK:
        assert rendered.prompt_length == len(prompt)


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_verbatim_rows_read_as_they_were_written(kind, request):
    tokenizer = wrapped(request.getfixturevalue(kind))
    rendered = Renderer(tokenizer, Reading()).render(PAIR)
    whole = tokenizer("two plus two is four").input_ids
    assert rendered.ids == [*whole, tokenizer.eos_token_id]
    assert rendered.trained == len(rendered.ids) - len(Renderer(tokenizer, Reading()).prompt(PAIR))


def test_an_end_token_that_is_there_is_not_doubled(tokenizer):
    rendered = Renderer(tokenizer, Reading()).render(
        replace(PAIR, turns=(PAIR.turns[0], Turn("assistant", " four</s>")))
    )
    assert rendered.ids.count(tokenizer.eos_token_id) == 1
    assert rendered == Renderer(tokenizer, Reading()).render(PAIR)


def test_begin_token_as_the_tokenizer_puts_it_once(metaspace, byte_level):
    for record in (TALK, PAIR, Record((Turn("assistant", "text"),), "text")):
        ids = Renderer(wrapped(metaspace), Reading()).render(record).ids
        assert ids[0] == 0
        assert ids.count(0) == 1
        assert 0 not in Renderer(wrapped(byte_level), Reading()).render(record).ids
    assert Renderer(wrapped(metaspace, OPENED), Reading()).render(TALK).ids.count(0) == 1


def test_a_template_that_writes_two_begin_tokens_is_followed(byte_level):
    renderer = Renderer(wrapped(byte_level, "{{ bos_token }}" + OPENED), Reading())
    assert renderer.writes_two_bos
    assert renderer.render(TALK).ids[:2] == [0, 0]


MODES = {
    "chat": (SINGLE, "chat", "chat", "verbatim"),
    "completion": (PAIR, "chat", "verbatim", "verbatim"),
    "classification": (CLASS, "verbatim", "verbatim", "verbatim"),
    "text": (Record((Turn("assistant", "text"),), "text"), "verbatim", "verbatim", "verbatim"),
}


@pytest.mark.parametrize("case", MODES)
def test_the_documented_table(case, byte_level):
    record, own, without, none = MODES[case]
    assert Renderer(wrapped(byte_level, UNMARKED), Reading()).mode(record) == own
    assert Renderer(wrapped(byte_level), Reading()).mode(record) == without
    assert Renderer(wrapped(byte_level, UNMARKED), Reading(template="none")).mode(record) == none
    if case != "text":
        assert Renderer(wrapped(byte_level, UNMARKED), Reading(template="tokenizer")).mode(record) == "chat"
        assert Renderer(wrapped(byte_level), Reading(template="default")).mode(record) == "chat"


def test_a_class_in_a_chat_has_no_blank_in_front(templated):
    renderer = Renderer(templated(UNMARKED), Reading(template="tokenizer"))
    assert (
        renderer.text(CLASS) == "<|im_start|>user\ntext\nLabel:<|im_end|>\n<|im_start|>assistant\npositive<|im_end|>\n"
    )


def test_the_default_template(tokenizer):
    renderer = Renderer(tokenizer, Reading())
    assert renderer.text(TALK) == (
        "System:\nBe kind.\n\nUser:\nHello!\n\nAssistant:\nHow can I help?</s>\n\n"
        "User:\nWhat is two plus two?\n\nAssistant:\nIt is four.</s>"
    )
    assert tokenizer.decode(renderer.prompt(SINGLE)) == "User:\nWhat is it?\n\nAssistant:\n"
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    using = Record((Turn("user", "q"), Turn("assistant", "a", reasoning="t", calls=(call,))), "chat", tools=(call,))
    assert renderer.text(using).endswith(
        'Assistant:\n<think>\nt\n</think>\na<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call></s>'
    )
    assert renderer.text(using).startswith('Tools:\n{"type": "function"')


def test_a_tool_turn_keeps_its_name_and_the_call_it_answers(templated):
    told = (
        "{% for m in messages %}[{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}"
        "{% if m.tool_call_id %} for {{ m.tool_call_id }}{% endif %}] {{ m.content }}{% endfor %}"
    )
    tool = Turn("tool", "42", name="search", answers="call 1")
    record = Record((Turn("user", "q"), tool, Turn("assistant", "a")), "chat")
    renderer = Renderer(templated(told), Reading(train_on="all"))
    assert renderer.text(record) == "[user] q[tool search for call 1] 42[assistant] a"
    assert unpacked(packed(record)) == record


PARTS = (
    "{% for m in messages %}[{{ m.role }}] {% for p in m.content %}{{ p.text }}{% endfor %}{{ eos_token }}{% endfor %}"
)
SILENT = "{% for m in messages %}[{{ m.role }}]{% endfor %}"


def test_a_template_that_reads_parts_is_given_parts(templated):
    assert Renderer(templated(PARTS), Reading(train_on="all")).text(SINGLE) == (
        "[user] What is it?</s>[assistant] It is four.</s>"
    )


def test_a_template_that_leaves_out_what_is_said_is_refused(templated):
    with pytest.raises(BadInput, match="the chat template leaves out what is said"):
        Renderer(templated(SILENT), Reading(train_on="all")).render(SINGLE)


THINKS_WHEN_ASKED = UNMARKED.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")


def test_a_template_that_opens_generated_answers_otherwise_is_told(templated):
    renderer = Renderer(templated(THINKS_WHEN_ASKED), Reading())
    assert renderer.opens_otherwise == "<think>"
    assert weighed(renderer.render(SINGLE), renderer.encoder.tokenizer) == [("It is four.<|im_end|>", 1.0)]
    assert Renderer(templated(UNMARKED), Reading()).opens_otherwise == ""


SPLIT_MARKS = MARKED.replace("{{ m.content }}<|im_end|>{% endgeneration %}", (
    "{{ m.content }}{% endgeneration %}{% generation %}<|im_end|>{% endgeneration %}"
))  # fmt: skip
TWO_MARKS = SPLIT_MARKS.replace("{% endgeneration %}{% generation %}", "{% endgeneration %}!{% generation %}")


def test_marks_that_touch_belong_to_one_turn(templated):
    renderer = Renderer(templated(SPLIT_MARKS), Reading(train_on="last_turn"))
    assert weighed(renderer.render(TALK), renderer.encoder.tokenizer) == [("It is four.<|im_end|>", 1.0)]


def test_marks_that_cannot_be_told_apart_serve_where_all_turns_weigh_the_same(templated):
    renderer = Renderer(templated(TWO_MARKS), Reading(train_on="all_turns"))
    assert weighed(renderer.render(TALK), renderer.encoder.tokenizer) == [
        (text, 1.0) for text in ("How can I help?", "<|im_end|>", "It is four.", "<|im_end|>")
    ]


def test_the_default_template_has_the_prefix_property(tokenizer):
    renderer = Renderer(tokenizer, Reading())
    texts = [renderer.text(replace(TALK, turns=TALK.turns[:count])) for count in range(2, 6)]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(texts))


def test_stops(templated, tokenizer):
    assert Renderer(templated(UNMARKED), Reading()).stops == (1, tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert Renderer(tokenizer, Reading()).stops == (1,)


def test_a_conversation_the_template_refuses(templated):
    with pytest.raises(BadInput, match=r"talk\.jsonl:7: the chat template refuses.*roles must alternate.*system, user"):
        Renderer(templated(STRICT), Reading()).render(TALK)


def test_many_at_once_are_as_one_by_one(templated):
    renderer = Renderer(templated(UNMARKED), Reading())
    records = [TALK, PAIR, SINGLE, CLASS, Record((Turn("assistant", "text"),), "text"), PAIR]
    assert renderer.render_many(records) == [renderer.render(record) for record in records]


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_an_empty_prompt_or_answer(kind, request):
    renderer = Renderer(wrapped(request.getfixturevalue(kind)), Reading())
    no_prompt = replace(PAIR, turns=(Turn("user", ""), Turn("assistant", "four")))
    text = Record((Turn("assistant", "four"),), "text")
    assert renderer.render(no_prompt).ids == renderer.render(text).ids
    no_answer = renderer.render(replace(PAIR, turns=(PAIR.turns[0], Turn("assistant", ""))))
    assert no_answer.trained == 1
    assert no_answer.ids[-1] == 1


def test_what_a_template_drops_is_told(templated, byte_level):
    """The sample template writes content alone; the default one writes everything."""
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turns = (
        Turn("system", "S"), Turn("user", "Q"), Turn("assistant", "", calls=(call,)), Turn("tool", "T"),
        Turn("assistant", "A", reasoning="R"),
    )  # fmt: skip
    found = Renderer(templated(UNMARKED), Reading()).unsaid(Record(turns, "chat"))
    assert {"tool calls", "reasoning"} <= found and "system turns" not in found
    only_users = "{% for m in messages %}{% if m.role in ('user', 'assistant') %}{{ m.content }}{% endif %}{% endfor %}"
    dropped = Renderer(templated(only_users), Reading())
    assert dropped.unsaid(Record(turns, "chat")) == {"system turns", "tool turns", "tool calls", "reasoning"}
    assert dropped.unsaid(Record(turns[1:2] + turns[-1:-2:-1], "chat")) == {"reasoning"}
    assert not dropped.unsaid(Record((Turn("user", "Q"), Turn("assistant", "A")), "completion"))
    assert not Renderer(wrapped(byte_level, None), Reading(template="default")).unsaid(Record(turns, "chat"))
