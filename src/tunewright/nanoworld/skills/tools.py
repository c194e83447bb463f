"""Tool calls: choose a tool, fill in its arguments, and say what came back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from tunewright.nanoworld import words, world
from tunewright.nanoworld.skill import Row, Skill, reply, says

Arguments = dict[str, Any]
CHORES = ("feed", "wash", "call", "walk", "brush", "find", "sing to")
WEATHERS = ("rain", "snow", "sunshine", "fog", "wind", "hail")


@dataclass(frozen=True)
class Tool:
    """What a tool is for, what a user says to need it, and what it answers."""

    name: str
    purpose: str
    parameters: dict[str, str]
    asked: tuple[str, ...]
    draw: Callable[[random.Random], Arguments]
    result: Callable[[random.Random, Arguments], str | int]
    answered: str

    def schema(self) -> dict[str, Any]:
        """The tool as the chat formats describe it."""
        properties = {name: {"type": kind} for name, kind in self.parameters.items()}
        body = {"type": "object", "properties": properties, "required": list(properties)}
        return {"type": "function", "function": {"name": self.name, "description": self.purpose, "parameters": body}}


def _town(rng: random.Random) -> str:
    return rng.choice(world.places()).name


def _person(rng: random.Random) -> str:
    return rng.choice(world.people()).name


TOOLS = (
    Tool(
        "weather",
        "The weather in a town.",
        {"town": "string"},
        ("What is the weather in {town}?", "Do I need an umbrella in {town}?", "How is the sky over {town} today?"),
        lambda rng: {"town": _town(rng)},
        lambda rng, given: rng.choice(WEATHERS),
        "In {town} there is {result} today.",
    ),
    Tool(
        "phone_book",
        "The phone number of a person.",
        {"name": "string"},
        ("What is the phone number of {name}?", "How can I call {name}?", "I want to ring {name}. Which number?"),
        lambda rng: {"name": _person(rng)},
        lambda rng, given: rng.randrange(1000, 10000),
        "The phone number of {name} is {result}.",
    ),
    Tool(
        "calculator",
        "Adds two numbers.",
        {"a": "integer", "b": "integer"},
        ("Use the calculator to add {a} and {b}.", "I need the exact sum of {a} and {b}.", "What do {a} and {b} make?"),
        lambda rng: {"a": rng.randrange(100, 10000), "b": rng.randrange(100, 10000)},
        lambda rng, given: given["a"] + given["b"],
        "The sum of {a} and {b} is {result}.",
    ),
    Tool(
        "ferry",
        "The next ferry between two towns.",
        {"start": "string", "end": "string"},
        ("When is the next ferry from {start} to {end}?", "I am in {start}. When can I sail to {end}?"),
        lambda rng: dict(zip(("start", "end"), (one.name for one in rng.sample(world.places(), 2)), strict=True)),
        lambda rng, given: f"{rng.randrange(6, 22)}:{rng.randrange(10, 60)}",
        "The next ferry from {start} to {end} leaves at {result}.",
    ),
    Tool(
        "shop",
        "How many pieces a shop has left.",
        {"item": "string", "town": "string"},
        ("How many {item} are left in the shop in {town}?", "Are there still {item} in the shop of {town}?"),
        lambda rng: {"item": rng.choice(words.COUNTED), "town": _town(rng)},
        lambda rng, given: rng.randrange(2, 100),
        "The shop in {town} has {result} {item} left.",
    ),
    Tool(
        "reminder",
        "Sets a reminder for an hour of the day.",
        {"hour": "integer", "text": "string"},
        (
            "Remind me at {hour} to {text}.",
            "At {hour} I have to {text}. Set a reminder.",
            "Wake me at {hour} to {text}!",
        ),
        lambda rng: {"hour": rng.randrange(5, 23), "text": f"{rng.choice(CHORES)} the {rng.choice(words.ANIMALS)}"},
        lambda rng, given: rng.randrange(10, 100),
        "Done. Reminder number {result} is set.",
    ),
)
# The town is drawn, not looked up in the world: whoever answers from memory instead of reading is found out.
ADDRESS = Tool(
    "address_book",
    "The home town of a person.",
    {"name": "string"},
    ("What is the weather like where {name} lives?", "Does it rain in the home town of {name}?"),
    lambda rng: {"name": _person(rng)},
    lambda rng, given: _town(rng),
    "{name} lives in {result}.",
)


class Tools(Skill):
    """Level 1 offers one tool and wants its call, level 2 offers three, level 3 gives the result and wants the answer,
    level 4 wants the second call of two, which needs what the first one returned."""

    name: ClassVar[str] = "tools"
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    def draw(self, rng: random.Random, level: int) -> Row:
        tool = ADDRESS if level == 4 else rng.choice(TOOLS)
        others = rng.sample([one for one in TOOLS if one is not tool], 0 if level == 1 else 2)
        if level == 4:
            others = [TOOLS[0], others[0] if others[0] is not TOOLS[0] else others[1]]
        arguments = tool.draw(rng)
        result = tool.result(rng, arguments)
        messages: list[dict[str, Any]] = [{"role": "user", "content": rng.choice(tool.asked).format(**arguments)}]
        messages.append(_call(tool, arguments, 1))
        if level > 2:
            messages.append({"role": "tool", "tool_call_id": "call_1", "content": json.dumps(result)})
        if level == 3:
            messages.append({"role": "assistant", "content": tool.answered.format(**arguments, result=result)})
        if level == 4:
            messages.append(_call(TOOLS[0], {"town": result}, 2))
        offered = [one.schema() for one in rng.sample([tool, *others], 1 + len(others))]
        row = {"messages": messages, "tools": offered}
        return row | {"answer": str(result) if level == 3 else reply(row)}

    def verify(self, row: Row, text: str) -> bool:
        if "tool_calls" not in row["messages"][-1]:
            return says(text, row["answer"], frozenset())
        try:
            return bool(json.loads(text) == json.loads(row["answer"]))
        except (ValueError, RecursionError):
            return False


def _call(tool: Tool, arguments: Arguments, number: int) -> dict[str, Any]:
    function = {"name": tool.name, "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}]}
