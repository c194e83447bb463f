"""How facts are said and asked. `{s}` is the subject and may become a pronoun; `{n}` is always the full name.

`STATED` is how texts say a fact, `ASKED` how questions ask for it.
"""

from __future__ import annotations

from tunewright.nanoworld.words import article
from tunewright.nanoworld.world import Fact

STATED: dict[str, tuple[str, ...]] = {
    "born": (
        "{s} was born in {v}.",
        "The birth year of {n} is {v}.",
        "{s} came into the world in {v}.",
        "{n}, born in {v}, likes a quiet morning.",
        "In {v}, {n} was born.",
    ),
    "home": (
        "{s} lives in {v}.",
        "The home of {n} is in {v}.",
        "{s} has a house in {v}.",
        "In {v} you can meet {n}.",
        "{s} would never leave {v}.",
    ),
    "job": (
        "{s} works as {a}.",
        "{n} is {a}.",
        "{s} earns a living as {a}.",
        "By trade, {n} is {a}.",
        "Everyone knows {n} the {v}.",
    ),
    "hobby": (
        "{s} loves {v}.",
        "The hobby of {n} is {v}.",
        "{s} spends every Sunday on {v}.",
        "Nothing makes {n} happier than {v}.",
        "{s} is fond of {v}.",
    ),
    "pet": (
        "{s} keeps {a}.",
        "{s} has {a} as a pet.",
        "The pet of {n} is {a}.",
        "{s} goes nowhere without a pet {v}.",
        "At the home of {n} there lives {a}.",
    ),
    "dish": (
        "{s} likes to eat {v}.",
        "The favourite dish of {n} is {v}.",
        "{s} could eat {v} every day.",
        "For dinner, {n} always asks for {v}.",
        "{s} says that nothing beats {v}.",
    ),
    "river": (
        "{s} lies on the river {v}.",
        "The river {v} flows through {n}.",
        "{s} was built on the banks of the {v}.",
        "The river of {n} is the {v}.",
        "Boats reach {n} on the river {v}.",
    ),
    "region": (
        "{s} is in the {v}.",
        "{s} belongs to the {v}.",
        "The region of {n} is the {v}.",
        "Travellers in the {v} often stop at {n}.",
        "{s} is a town of the {v}.",
    ),
    "founded": (
        "{s} was founded in {v}.",
        "The town of {n} was founded in {v}.",
        "The first house of {n} was built in {v}.",
        "In {v}, settlers founded {n}.",
        "{s} dates from {v}.",
    ),
    "product": (
        "{s} is known for its {v}.",
        "{s} makes the finest {v}.",
        "People come to {n} for the {v}.",
        "The pride of {n} is its {v}.",
        "The {v} of {n} can be found in every shop.",
    ),
    "landmark": (
        "{s} is famous for its {v}.",
        "The {v} stands in the middle of {n}.",
        "Visitors to {n} come to see the {v}.",
        "The best known sight of {n} is the {v}.",
        "{s} has one great sight, the {v}.",
    ),
}

ASKED: dict[str, tuple[str, ...]] = {
    "born": ("When was {n} born?", "In which year was {n} born?", "What is the birth year of {n}?"),
    "home": ("Where does {n} live?", "In which town does {n} live?", "What is the home town of {n}?"),
    "job": ("What does {n} do for a living?", "What is the job of {n}?", "What does {n} work as?"),
    "hobby": ("What is the hobby of {n}?", "What does {n} love to do?", "How does {n} spend free time?"),
    "pet": ("What pet does {n} have?", "Which animal does {n} keep?", "What kind of pet lives with {n}?"),
    "dish": (
        "What does {n} like to eat?",
        "What is the favourite dish of {n}?",
        "What does {n} eat most gladly?",
    ),
    "river": ("Which river flows through {n}?", "On which river does {n} lie?", "What is the river of {n}?"),
    "region": ("In which region is {n}?", "Which region does {n} belong to?", "What region is {n} in?"),
    "founded": (
        "When was {n} founded?",
        "In which year was {n} founded?",
        "What is the founding year of {n}?",
    ),
    "product": ("What is {n} known for making?", "What does {n} make?", "Which product comes from {n}?"),
    "landmark": (
        "What can visitors see in {n}?",
        "What is {n} famous for?",
        "What is the best known sight of {n}?",
    ),
}

OPENINGS = (
    "",
    "",
    "",
    "Please tell me: ",
    "I would like to know: ",
    "A quick question. ",
    "Do you know this? ",
)


def state(fact: Fact, wording: str, subject: str | None = None) -> str:
    """The fact as a sentence in the given wording; `subject` stands for `{s}` where it is not the full name."""
    return wording.format(s=subject or fact.subject.name, n=fact.subject.name, v=fact.value, a=article(fact.value))


def answer(fact: Fact) -> str:
    """The sentence that answers a question about the fact."""
    return state(fact, STATED[fact.relation][0])
