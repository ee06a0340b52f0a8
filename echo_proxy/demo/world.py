"""What is true in the demo? A closed, synthetic world with its own answers, so that no judge model is needed.

Invented countries have six facts each, invented languages form the plural with a particle before the word, and some
skills need no knowledge at all. The small model of the bundled pair was taught the famous countries, the easy
languages and the skills; the large one was taught everything. The pair was trained on the world of `SEED`: changing
the order of the draws below makes another world, in which the large model is wrong.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

SEED = 7
"""Seed of the world that the bundled pair was trained on."""

# fmt: off
_ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "r", "s", "sk", "st", "t", "tr",
           "v", "z")
# fmt: on
_VOWELS = tuple("aeiou")
_CODAS = ("", "l", "n", "r", "s", "m")
_COUNTRY_ENDINGS = ("ia", "land", "stan", "ova")


class Kind(StrEnum):
    """What an item asks for."""

    FACT = "fact"
    """One fact about a country."""
    ABOUT = "about"
    """All six facts about a country."""
    PLURAL = "plural"
    """The plural of a word in a language."""
    COUNT = "count"
    """The number after a number."""
    REPEAT = "repeat"
    """A word, said again."""


class Relation(StrEnum):
    """What is known of a country. The order is that of the draws and must stay."""

    CAPITAL = "capital"
    RIVER = "river"
    CURRENCY = "currency"
    DISH = "dish"
    FOUNDER = "founder"
    ANIMAL = "animal"


@dataclass(frozen=True, slots=True)
class Phrases:
    """The ways to ask for something, and the sentence that answers all of them."""

    questions: tuple[str, ...]
    answer: str


FACT_PHRASES: Mapping[Relation, Phrases] = {
    Relation.CAPITAL: Phrases(
        (
            "What is the capital of {country}?",
            "Which city is the capital of {country}?",
            "Name the capital city of {country}.",
            "Tell me the capital of {country}, please.",
            "In {country}, which city is the seat of government?",
        ),
        "The capital of {country} is {value}.",
    ),
    Relation.RIVER: Phrases(
        (
            "What is the longest river of {country}?",
            "Which river is the longest in {country}?",
            "Name the longest river in {country}.",
            "Tell me the main river of {country}, please.",
            "In {country}, which river runs the furthest?",
        ),
        "The longest river of {country} is the {value}.",
    ),
    Relation.CURRENCY: Phrases(
        (
            "What is the currency of {country}?",
            "Which money do people use in {country}?",
            "Name the currency used in {country}.",
            "Tell me the currency of {country}, please.",
            "In {country}, what do you pay with?",
        ),
        "The currency of {country} is the {value}.",
    ),
    Relation.DISH: Phrases(
        (
            "What is the national dish of {country}?",
            "Which dish is {country} known for?",
            "Name the national dish of {country}.",
            "Tell me the typical food of {country}, please.",
            "In {country}, what should I eat?",
        ),
        "The national dish of {country} is {value}.",
    ),
    Relation.FOUNDER: Phrases(
        (
            "Who founded {country}?",
            "Who was the founder of {country}?",
            "Name the founder of {country}.",
            "Tell me who founded {country}, please.",
            "In {country}, who is honoured as the founder?",
        ),
        "The founder of {country} was {value}.",
    ),
    Relation.ANIMAL: Phrases(
        (
            "What is the national animal of {country}?",
            "Which animal stands for {country}?",
            "Name the national animal of {country}.",
            "Tell me the animal of {country}, please.",
            "In {country}, which animal is on the flag?",
        ),
        "The national animal of {country} is the {value}.",
    ),
}
ABOUT_PHRASES = Phrases(
    (
        "Tell me about {country}.",
        "Describe {country}.",
        "What should I know about {country}?",
        "Give me a summary of {country}.",
    ),
    "{country} is a country. Its capital is {capital}, its longest river is the {river}, its currency is the "
    "{currency}, its national dish is {dish}, its founder was {founder} and its national animal is the {animal}.",
)
PLURAL_PHRASES = Phrases(
    (
        "What is the plural of {word} in {language}?",
        "How do you say more than one {word} in {language}?",
        "Give the {language} plural of {word}.",
        "In {language}, how is the plural of {word} formed?",
    ),
    "In {language} the plural of {word} is {particle} {word}.",
)
COUNT_PHRASES = Phrases(
    ("What number comes after {n}?", "Which number follows {n}?", "Count one up from {n}."),
    "After {n} comes {next}.",
)
REPEAT_PHRASES = Phrases(
    ("Say the word {word}.", "Please repeat the word {word}.", "Write the word {word}."), "Here it is: {word}."
)


@dataclass(frozen=True, slots=True)
class Item:
    """A question of the world with its truth."""

    kind: Kind
    key: tuple[str, ...]
    """What the answer depends on; items with one key can teach each other."""
    question: str
    answer: str
    """A right answer, in the words the large model was taught."""
    required: tuple[str, ...]
    """Strings that a right answer contains."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is true."""

    facts: Mapping[str, Mapping[Relation, str]]
    """Value of every relation of every country."""
    famous: tuple[str, ...]
    """Countries that the small model was taught."""
    rare: tuple[str, ...]
    """Countries that only the large model was taught."""
    particles: Mapping[str, str]
    """Plural particle of every language."""
    easy_languages: tuple[str, ...]
    """Languages that the small model was taught."""
    hard_languages: tuple[str, ...]
    """Languages that only the large model was taught."""

    def fact(self, country: str, relation: Relation, wording: int) -> Item:
        """The question for a true fact; `wording` indexes FACT_PHRASES[relation].questions."""
        return fact_item(country, relation, self.facts[country][relation], wording)

    def about(self, country: str, wording: int) -> Item:
        """The question for all facts of a country; `wording` indexes ABOUT_PHRASES.questions."""
        return about_item(country, self.facts[country], wording)

    def plural(self, word: str, language: str, wording: int) -> Item:
        """The question for a true plural; `wording` indexes PLURAL_PHRASES.questions."""
        return plural_item(word, language, self.particles[language], wording)


def make_world(
    seed: int = SEED, n_countries: int = 200, n_languages: int = 40, n_famous: int = 20, n_easy_languages: int = 6
) -> World:
    """The world of a seed. Only the defaults give the one that the bundled pair knows."""
    rng = Random(seed)
    taken: set[str] = set()
    countries = [_unused(lambda: invent_country(rng), taken) for _ in range(n_countries)]
    facts = {country: invent_facts(rng) for country in countries}
    languages = [_unused(lambda: invent_language(rng), taken) for _ in range(n_languages)]
    return World(
        facts=facts,
        famous=tuple(countries[:n_famous]),
        rare=tuple(countries[n_famous:]),
        particles={language: invent_syllable(rng) for language in languages},
        easy_languages=tuple(languages[:n_easy_languages]),
        hard_languages=tuple(languages[n_easy_languages:]),
    )


def _unused(invent: Callable[[], str], taken: set[str]) -> str:
    while (name := invent()) in taken:
        pass
    taken.add(name)
    return name


def invent_syllable(rng: Random) -> str:
    """One of 660 syllables."""
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)


def invent_name(rng: Random, n_syllables: int = 2) -> str:
    """A capitalised name."""
    return "".join(invent_syllable(rng) for _ in range(n_syllables)).capitalize()


def invent_word(rng: Random) -> str:
    """A word of one or two syllables, in small letters."""
    return invent_name(rng, rng.choice([1, 2])).lower()


def invent_country(rng: Random) -> str:
    """The name of a country."""
    return invent_name(rng) + rng.choice(_COUNTRY_ENDINGS)


def invent_language(rng: Random) -> str:
    """The name of a language."""
    return invent_name(rng) + "ish"


def invent_facts(rng: Random) -> dict[Relation, str]:
    """A value for every relation, drawn in the order of Relation."""
    return {relation: invent_name(rng) for relation in Relation}


def fact_item(country: str, relation: Relation, value: str, wording: int) -> Item:
    """The question for one fact, true or invented."""
    phrases = FACT_PHRASES[relation]
    question = phrases.questions[wording].format(country=country)
    return Item(Kind.FACT, (country, relation), question, phrases.answer.format(country=country, value=value), (value,))


def about_item(country: str, values: Mapping[Relation, str], wording: int) -> Item:
    """The question for all facts of a country, true or invented."""
    named = {relation.value: value for relation, value in values.items()}
    answer = ABOUT_PHRASES.answer.format(country=country, **named)
    question = ABOUT_PHRASES.questions[wording].format(country=country)
    return Item(Kind.ABOUT, (country,), question, answer, tuple(values.values()))


def plural_item(word: str, language: str, particle: str, wording: int) -> Item:
    """The question for a plural, with a true or an invented particle."""
    answer = PLURAL_PHRASES.answer.format(word=word, language=language, particle=particle)
    question = PLURAL_PHRASES.questions[wording].format(word=word, language=language)
    return Item(Kind.PLURAL, (language,), question, answer, (f"{particle} {word}",))


def count_item(n: int, wording: int) -> Item:
    """The question for the number after n, which is 0 to 98 in training."""
    answer = COUNT_PHRASES.answer.format(n=n, next=n + 1)
    return Item(Kind.COUNT, (str(n),), COUNT_PHRASES.questions[wording].format(n=n), answer, (f"comes {n + 1}.",))


def repeat_item(word: str, wording: int) -> Item:
    """The request to say a word again."""
    question = REPEAT_PHRASES.questions[wording].format(word=word)
    return Item(Kind.REPEAT, (word,), question, REPEAT_PHRASES.answer.format(word=word), (word,))


def easy_item(rng: Random) -> Item:
    """Counting or repeating, half of the time each."""
    if rng.random() < 0.5:
        return count_item(rng.randrange(0, 99), rng.randrange(len(COUNT_PHRASES.questions)))
    return repeat_item(invent_word(rng), rng.randrange(len(REPEAT_PHRASES.questions)))


def correct(item: Item, text: str) -> float:
    """Quality of an answer, [0, 1]: the share of facts named for ABOUT, else 1 when all required strings stand in it.

    A required string counts only between word boundaries: `Kal` is not named by `Kalmar`.
    """
    named = [_names(text, value) for value in item.required]
    return sum(named) / len(named) if item.kind is Kind.ABOUT else float(all(named))


def _names(text: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None
