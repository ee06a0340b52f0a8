"""The world is the one that the bundled pair was trained on, and it judges answers by its truth."""

from pathlib import Path
from typing import Any

import pytest

import echo_proxy
from echo_proxy.demo.world import (
    FACT_PHRASES,
    Item,
    Relation,
    World,
    about_item,
    correct,
    count_item,
    fact_item,
    make_world,
    plural_item,
    repeat_item,
)

PAIR = Path(echo_proxy.__file__).parent / "assets" / "pair"


@pytest.fixture(scope="module")
def world() -> World:
    """The world of the bundled pair."""
    return make_world()


def test_facts_are_those_of_the_training(world: World) -> None:
    """The draws never change: these values were printed when the bundled pair was trained."""
    assert world.rare[0] == "Molfalland"
    assert world.facts["Molfalland"] == {
        Relation.CAPITAL: "Vusus",
        Relation.RIVER: "Brartor",
        Relation.CURRENCY: "Damnus",
        Relation.DISH: "Zerpu",
        Relation.FOUNDER: "Dolfar",
        Relation.ANIMAL: "Bamza",
    }
    assert world.famous[0] == "Lervaia"
    assert world.facts["Lervaia"][Relation.CAPITAL] == "Larhes"
    assert (world.hard_languages[0], world.particles["Drulpiish"]) == ("Drulpiish", "se")


def test_sizes(world: World) -> None:
    """200 countries of which 20 are famous, 40 languages of which 6 are easy, all names different."""
    names = [*world.facts, *world.particles]

    assert (len(world.famous), len(world.rare)) == (20, 180)
    assert (len(world.easy_languages), len(world.hard_languages)) == (6, 34)
    assert len(set(names)) == len(names) == 240


def test_another_seed_is_another_world(world: World) -> None:
    """The seed decides everything."""
    assert make_world() == world
    assert make_world(seed=8).rare[0] != world.rare[0]


@pytest.mark.parametrize(
    "item",
    [
        fact_item("Molfalland", Relation.RIVER, "Brartor", 4),
        about_item("Molfalland", dict.fromkeys(Relation, "Kal"), 0),
        plural_item("bon", "Drulpiish", "se", 1),
        count_item(81, 2),
        repeat_item("krum", 0),
    ],
)
def test_the_taught_answer_is_correct_and_silence_is_not(item: Item) -> None:
    """Every kind of item accepts its own answer and nothing for nothing."""
    assert correct(item, item.answer) == 1.0
    assert correct(item, "") == 0.0
    assert correct(item, item.question) < 1.0 or item.required[0] in item.question


def test_a_longer_name_does_not_count() -> None:
    """A required string counts only as a whole word."""
    item = fact_item("Molfalland", Relation.CAPITAL, "Vus", 0)

    assert correct(item, "The capital of Molfalland is Vusus.") == 0.0
    assert correct(item, "It is Vus, I think") == 1.0


def test_a_description_earns_the_share_of_its_facts(world: World) -> None:
    """Three of six facts are half a right answer."""
    item = world.about("Molfalland", 0)

    assert correct(item, "Vusus, Brartor, Damnus, Kal, Kal, Kal") == 0.5


@pytest.fixture(scope="module")
def large() -> Any:
    """The bundled large model, in this process."""
    from llama_cpp import Llama

    return Llama(str(PAIR / "large-q8_0.gguf"), n_ctx=256, n_threads=1, verbose=False)


def test_the_large_model_knows_this_world(world: World, large: Any) -> None:
    """Real inference: rare facts of our world are answered rightly, so model and world belong together."""
    items = [
        world.fact(world.rare[i * 17], relation, i % len(FACT_PHRASES[relation].questions))
        for i, relation in enumerate(Relation)
    ]

    answers = [_ask(large, item.question) for item in items]

    assert [correct(item, answer) for item, answer in zip(items, answers, strict=True)] == [1.0] * len(items)


def _ask(model: Any, question: str) -> str:
    reply = model.create_chat_completion(
        messages=[{"role": "user", "content": question}], temperature=0.0, max_tokens=64
    )
    return str(reply["choices"][0]["message"]["content"])
