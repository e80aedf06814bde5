"""The grammar of captions: a class and attributes, rendered as text in many ways, and parsed.

caption    = ["a"] adjective* NOUN ["with" detail] [relative adjective ("and" adjective)*]
relative   = "that is" | "that are"
detail     = "long sleeves" | "short sleeves" | "a heel" | "no heel"
"""

from random import Random
from typing import NamedTuple

from ddpm.captions.attributes import ATTRIBUTES, VALUES
from ddpm.errors import UserError

NOUNS = (  # of each class of FashionMNIST, by its index
    ("t-shirt", "tee", "top"),
    ("trousers", "pants"),
    ("pullover", "sweater", "jumper"),
    ("dress", "frock", "gown"),
    ("coat", "jacket"),
    ("sandal",),
    ("shirt", "blouse"),
    ("sneaker", "trainer"),
    ("bag", "handbag", "purse"),
    ("boot", "bootee"),
)
PLURAL = "trousers", "pants"
ADJECTIVES = {
    "dark": ("dark", "dim"),
    "light": ("light", "pale", "bright"),
    "plain": ("plain", "solid"),
    "patterned": ("patterned", "printed"),
    "narrow": ("narrow", "slim"),
    "wide": ("wide", "broad"),
    "low": ("low", "short"),
    "tall": ("tall", "high"),
    "short-sleeved": ("short-sleeved",),
    "long-sleeved": ("long-sleeved",),
    "flat": ("flat",),
    "heeled": ("heeled", "high-heeled"),
}
DETAILS = {
    "short-sleeved": ("with", "short", "sleeves"),
    "long-sleeved": ("with", "long", "sleeves"),
    "flat": ("with", "no", "heel"),
    "heeled": ("with", "a", "heel"),
}
DETAILS_IN_WORDS = ", ".join(" ".join(words) for words in DETAILS.values())
MEANS = {word: value for value, words in ADJECTIVES.items() for word in words}
NAMES_ITEM = {noun: item for item, nouns in enumerate(NOUNS) for noun in nouns}
RELATIVE = {False: ("that", "is"), True: ("that", "are")}
LINKS = {"a", "and", "that", "is", "are"}  # function words
WORDS = sorted({*MEANS, *NAMES_ITEM, *LINKS, *sum(DETAILS.values(), ())})


class Meaning(NamedTuple):
    """The meaning of a caption.

    Attributes:
        item: A class index of FashionMNIST.
        values: Attribute values, at most one per attribute, in the order of ATTRIBUTES.
    """

    item: int
    values: tuple[str, ...] = ()


def render(meaning: Meaning, rng: Random) -> str:
    """A caption with this meaning, with random synonyms and word order from `rng`."""
    noun = rng.choice(NOUNS[meaning.item])
    details = [value for value in meaning.values if value in DETAILS and rng.random() < 0.5]
    adjectives = [rng.choice(ADJECTIVES[value]) for value in meaning.values if value not in details]
    rng.shuffle(adjectives)
    n_before = rng.randint(0, len(adjectives)) if rng.random() < 0.5 else len(adjectives)
    words = [] if noun in PLURAL or rng.random() < 0.2 else ["a"]
    words += [*adjectives[:n_before], noun, *(word for value in details for word in DETAILS[value])]
    if after := adjectives[n_before:]:
        words += [*RELATIVE[noun in PLURAL], after[0], *(word for value in after[1:] for word in ("and", value))]
    return " ".join(words)


def parse(caption: str) -> Meaning:
    """The meaning of a caption. Word order does not matter, except within a detail.

    Raises:
        UserError: It names no item or several, has two values of one attribute, or has words out of place.
    """
    text = f" {' '.join(caption.lower().split())} "
    said = set[str]()
    for value, detail_words in DETAILS.items():
        if (detail := f" {' '.join(detail_words)} ") in text:
            said.add(value)
            text = text.replace(detail, " ")
    words = text.split()
    if odd := [word for word in words if word not in MEANS and word not in NAMES_ITEM and word not in LINKS]:
        raise UserError(f"caption {caption!r}: {odd[0]!r} has no meaning there; allowed: {DETAILS_IN_WORDS}")
    said |= {MEANS[word] for word in words if word in MEANS}
    items = {NAMES_ITEM[word] for word in words if word in NAMES_ITEM}
    if len(items) != 1:
        named = "names no item" if not items else "names more than one item"
        raise UserError(f"caption {caption!r} {named}; it must name one of: {', '.join(NAMES_ITEM)}")
    for name, pair in ATTRIBUTES.items():
        if said.issuperset(pair):
            raise UserError(f"caption {caption!r} says {pair[0]} and {pair[1]}; only one {name} is allowed")
    return Meaning(items.pop(), tuple(value for value in VALUES if value in said))
