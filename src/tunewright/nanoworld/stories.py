"""Short stories: five plots, told with many words. Each story has a hero, a thing, a place and a helper."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tunewright.nanoworld import words

HEROES = (
    "Pip",
    "Tumble",
    "Nib",
    "Bramble",
    "Dot",
    "Fern",
    "Hazel",
    "Muffin",
    "Pepper",
    "Socks",
    "Toby",
    "Willow",
    "Ziggy",
    "Biscuit",
    "Clover",
    "Mango",
)
PLACES = ("meadow", "forest", "harbour", "village", "valley", "garden", "island", "mill", "castle", "orchard")
MOODS = ("small", "curious", "sleepy", "brave", "cheerful", "shy", "clever", "stubborn")

OPENINGS = (
    "Once there was {a_mood} {animal} named {hero} who lived in {a_place}.",
    "In {a_place} far away lived {a_mood} {animal}. Its name was {hero}.",
    "{hero} was {a_mood} {animal} from the {place}.",
    "Everybody in the {place} knew {hero}, the {mood} {animal}.",
)
ENDINGS = (
    "From that day on, {hero} and the {helper} were friends.",
    "That night {hero} slept very well.",
    "{hero} never forgot that day in the {place}.",
    "And if they are not too tired, they are laughing still.",
    "They shared {a_fruit} and watched the sun go down.",
)
PLOTS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("One morning {hero} lost a {colour} {thing}.", "One day the {colour} {thing} of {hero} was gone."),
        ("{hero} looked under the bed and behind the door.", "{hero} looked everywhere, even in the soup."),
        (
            '"Have you seen my {thing}?" {hero} asked {a_helper}.',
            '{hero} met {a_helper} and asked, "Where is my {thing}?"',
        ),
        (
            '"It is on your head," said the {helper}.',
            "The {helper} had found the {thing} by the river and gave it back.",
        ),
    ),
    (
        ("{hero} had only one {fruit} left for dinner.", "For dinner {hero} had one last {fruit}."),
        (
            "Then a hungry {helper} knocked at the door with a {colour} {thing}.",
            "{A_helper} with a {thing} came by, hungry.",
        ),
        (
            "{hero} cut the {fruit} in two and gave away the larger half.",
            '"Sit down," said {hero}, and shared the {fruit}.',
        ),
        (
            "The {helper} was so glad that it left the {thing} as a present.",
            "In return the {helper} gave {hero} the {thing}.",
        ),
    ),
    (
        ("{hero} wanted to carry a {thing} across the river.", "A {colour} {thing} had to be brought over the river."),
        ("The water was cold and fast.", "There was no bridge, and {hero} could not swim."),
        ('"Climb on my back," said {a_helper}.', "{A_helper} came along with a little boat."),
        ("Together they crossed the river, and the {thing} stayed dry.", "They got wet, but the {thing} was safe."),
    ),
    (
        ("{hero} found a broken {thing} in the grass.", "On the road lay a {colour} {thing}, broken in two."),
        ("{hero} tried to mend it with honey, but that was no good.", "{hero} tied it with grass, and it broke again."),
        ("{A_helper} who knew all about tools stopped to look.", "Along came {a_helper} with a {tool}."),
        ("Soon the {thing} was better than new.", "They worked until noon, and then the {thing} was whole."),
    ),
    (
        ("{hero} was new in the {place} and knew nobody.", "Nobody in the {place} had spoken to {hero} yet."),
        (
            "So {hero} took a {colour} {thing} outside and waited.",
            "{hero} sat down beside a {thing} and hummed a song.",
        ),
        ('"What a fine {thing}," said {a_helper}.', '{A_helper} came closer. "May I see the {thing}?"'),
        ("They played with the {thing} until dark.", "Soon they were both laughing about nothing at all."),
    ),
)


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about."""

    hero: str
    animal: str
    thing: str
    place: str


def cast(rng: random.Random) -> Cast:
    """A random hero, thing and place."""
    return Cast(rng.choice(HEROES), rng.choice(words.ANIMALS), rng.choice(words.THINGS), rng.choice(PLACES))


def story(rng: random.Random, about: Cast) -> str:
    """A story of six to seven sentences about this cast."""
    mood, fruit = rng.choice(MOODS), rng.choice(words.FRUITS)
    helper = rng.choice([animal for animal in words.ANIMALS if animal != about.animal])
    told = {
        **vars(about),
        "mood": mood,
        "a_mood": words.article(mood),
        "helper": helper,
        "a_helper": words.article(helper),
        "A_helper": words.article(helper).capitalize(),
        "a_place": words.article(about.place),
        "fruit": fruit,
        "a_fruit": words.article(fruit),
        "colour": rng.choice(words.COLOURS),
        "tool": rng.choice(words.TOOLS),
    }
    scenes = (OPENINGS, *rng.choice(PLOTS), ENDINGS)
    return " ".join(rng.choice(scene).format(**told) for scene in scenes)
