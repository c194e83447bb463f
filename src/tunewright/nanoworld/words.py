"""The words the world is told in. Small on purpose: a small model should learn how words are used."""

from __future__ import annotations


def _each(text: str, by: str = " ") -> list[str]:
    return text.split(by)


SHE = _each(
    "Ada Bea Clara Dina Edda Flora Greta Hanna Ines Jana Kira Lena Mira Nora Olga Petra Rosa Selma Tilda Una "
    "Vera Wanda Yara Zelda Alma Cora Elsa Gina Iris Lotte"
)
HE = _each(
    "Anton Bram Carl Dario Emil Finn Gus Hugo Ivo Jonas Karl Leo Marek Nils Otto Pavel Rafa Silas Tomas Ugo "
    "Viktor Wim Yuri Zeno Boris David Felix Henri Jakob Oscar"
)
FAMILY = _each(
    "Ash Birch Bloom Carter Crane Drake Dunn Field Finch Fox Frost Gale Grove Hale Hart Heath Holt Keel Lark "
    "Lowe Marsh Moss North Oakes Penn Pike Quill Reed Rowe Sparrow Stone Teller Thorne Vale Voss Ward Wren Yates"
)

PLACE_HEADS = _each(
    "Amber Brindle Copper Elder Fair Glen Hollow Iron Kettle Maple Otter Pebble Raven Silver Thistle Willow Winter"
)
PLACE_TAILS = _each("ford wick mere ham ton dale brook bury haven combe")

RIVERS = _each("Ambry Belling Carrow Dessel Fenner Gild Hesper Isk Loam Murr Nettle Tarn")
REGIONS = ("Northmarch", "Low Fens", "Salt Coast", "Hill Shires", "Greenwood", "Eastern Downs")
PRODUCTS = _each(
    "cheese clocks kites honey boats blankets lamps bells pies gloves maps pots soap fiddles candles cider "
    "hats rope ink buttons"
)
LANDMARKS = _each(
    "crooked tower,old windmill,stone bridge,glass chapel,round library,red lighthouse,frozen fountain,"
    "upside-down clock,singing gate,giant oak,sunken garden,brass statue,silent market,tiny castle",
    by=",",
)
JOBS = _each(
    "baker,beekeeper,bookbinder,carpenter,clockmaker,cook,doctor,farmer,ferry captain,gardener,judge,"
    "lighthouse keeper,locksmith,mapmaker,miller,nurse,painter,pilot,potter,postman,shepherd,tailor,teacher,weaver",
    by=",",
)
HOBBIES = _each(
    "chess,fishing,juggling,knitting,stargazing,rowing,singing,skating,bird watching,stamp collecting,archery,"
    "mushroom picking,kite flying,crossword puzzles,tap dancing,cycling,wood carving,storytelling",
    by=",",
)
PETS = _each("parrot tortoise goat hedgehog rabbit goose ferret donkey owl lizard hamster pony")
DISHES = _each(
    "onion soup,plum cake,fried eggs,mushroom pie,fish stew,potato salad,apple dumplings,cheese toast,"
    "pancakes,baked beans,pea soup,cherry tart,noodles,rice pudding,pickled herring,roast turnips",
    by=",",
)

ANIMALS = _each("fox bear cat dog hen horse mouse otter owl pig rabbit sheep badger crow duck goat")
FRUITS = _each("apple plum pear cherry lemon peach fig grape melon orange")
TOOLS = _each("hammer saw drill spade rake axe chisel needle ladder bucket")
CLOTHES = _each("hat coat scarf shirt glove sock boot belt dress cap")
KINDS: dict[str, list[str]] = {
    "animal": ANIMALS,
    "fruit": FRUITS,
    "tool": TOOLS,
    "piece of clothing": CLOTHES,
}
THINGS = _each("lamp kite key drum boat bell map clock ring book button letter coin whistle blanket lantern")
COLOURS = _each("red blue green yellow black white brown grey")
PLANTS = _each("tulip oak fern rose moss reed ivy clover")

COUNTED = _each(
    "apples pears plums eggs buttons coins marbles stamps books pencils candles cookies shells cards stickers "
    "carrots lemons beads kites muffins"
)


def article(word: str) -> str:
    """The word with `a` or `an` before it."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def plural(noun: str) -> str:
    """The plural of a noun of this world."""
    irregular = {"mouse": "mice", "sheep": "sheep"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("s", "x", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def listing(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
