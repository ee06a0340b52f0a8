"""Whether a request was asked before, word for word, and its answer needs no proof."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.admission.cleanse import cleansed
from echo_proxy.answers.bound import LEAST_EXPLORING
from echo_proxy.answers.consider import consider
from echo_proxy.answers.identical import asked_before, is_deterministic
from echo_proxy.answers.pool import Pools
from echo_proxy.policy import Policy
from echo_proxy.policy_keeping import AnswersPolicy, PrivacyPolicy
from echo_proxy.privacy.clean import clean
from echo_proxy.types import Candidate, Observation, Replayed, Request, StoredAnswer
from tests.builders import NOW, candidate, example, policy, request
from tests.fakes import HashingEmbedder

TEXT = "What is the capital of France?"
RULES = AnswersPolicy()


def rules(mode: str = "act", **changes: Any) -> Policy:
    """The test's policy with the tier on."""
    return policy(mode=mode, answers=changes)


def asked(text: str = TEXT, **changes: Any) -> Request:
    """A request at temperature 0."""
    return replace(request(text, answer_key="k", is_deterministic=True), **changes)


def known(example_id: str = "e1", distance: float = 0.0, **changes: Any) -> Candidate:
    """The teacher's answer to the same words; nothing was observed of it."""
    return candidate(example_id, distance, **{"answer_key": "k", **changes})


def seen(is_correct: bool, distance: float = 0.0) -> Observation:
    """Of the stored answer, so far away."""
    return Observation(distance, is_correct, NOW)


def share_served(found: Candidate, one: Request | None = None, made: Policy | None = None) -> float:
    """How often it is given, over 400 seeds."""
    answers = [consider(one or asked(), [found], made or rules(), seed) for seed in range(400)]
    return sum(answer.is_served for answer in answers if answer) / 400


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [("", False), ('{"temperature":0}', True), ('{"temperature":1}', False), ('{"seed":7,"temperature":1}', True)],
)
def test_temperature_0_or_a_seed_leave_nothing_to_chance(parameters: str, expected: bool) -> None:
    """In the form in which a call tells them."""
    assert is_deterministic(parameters) is expected


def test_the_same_words_are_given_the_same_answer() -> None:
    """Without a single observation; what is told says why. A model is asked with the least chance there is."""
    made = consider(asked(f" {TEXT}\n"), [known()], rules(), 1)

    assert made is not None
    assert (made.is_served, made.explore_chance) == (True, LEAST_EXPLORING)
    assert made.why.startswith("asked word for word before; right 0 of 0 times; a model is asked with 0.020; drew ")
    assert 0.9 < share_served(known()) < 1


@pytest.mark.parametrize(
    "changes",
    [
        {"answer_key": ""},
        {"answer_key": "another"},
        {"request": "What is the capital of France"},
        {"request": TEXT.upper()},
        {"origin": "import"},
        {"origin": "coverage"},
        {"created_at": NOW - 8 * 86400},
        {"history": (Replayed(NOW, "large", 3, True, 1.0),)},
        {"observations": (seen(False),)},
        {"observations": (*(seen(True) for _ in range(3)), seen(False, 0.0005))},
    ],
)
def test_what_is_not_the_model_s_word_on_them_needs_its_proof(changes: dict[str, Any]) -> None:
    """Another key or other words, from a file, by upkeep, too old, or found wrong for the same words."""
    assert share_served(known(**changes)) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "shared"},
        {"origin": "promoted"},
        {"history": (Replayed(NOW, "large", 3, False, 0.5),)},
        {"observations": (seen(False, 0.1),)},
    ],
)
def test_what_is_its_word_needs_none(changes: dict[str, Any]) -> None:
    """A copy, a judge's finding, an answer that upkeep has left; what was wrong for other words tells nothing here."""
    assert share_served(known(**changes)) > 0.9


def test_by_chance_each_has_its_own() -> None:
    """Unless the operator says `all`."""
    by_chance = asked(is_deterministic=False)

    assert share_served(known(), by_chance) == 0
    assert share_served(known(), by_chance, rules(identical="all")) > 0.9


def test_off_means_that_the_usual_proof_decides() -> None:
    """For those at temperature 0 too."""
    assert share_served(known(), made=rules(identical="off")) == 0


def test_not_what_depends_on_time() -> None:
    """The same words, another day."""
    text = "What is the latest news of France?"

    assert share_served(known(request=text), asked(text)) == 0


def test_in_shadow_mode_nothing_is_given() -> None:
    """The call is LiteLLM's alone."""
    assert share_served(known(), made=rules("shadow")) == 0


def test_two_answers_to_the_same_words_are_none() -> None:
    """The model does say something else at times: neither is its last word."""
    assert asked_before(asked(), [known(), known("e2", response="Lyon.")], RULES) is None
    assert asked_before(asked(), [known(), known("e2", response="paris")], RULES) is not None


def test_one_doubt_counts_for_all_that_say_so() -> None:
    """A copy of an answer that was wrong is as wrong."""
    assert asked_before(asked(), [known(), known("e2", observations=(seen(False),))], RULES) is None


def test_it_goes_before_a_nearer_one() -> None:
    """What an embedding cannot tell apart, such as the middle of a long text, words can."""
    made = consider(asked(), [known("e2", request="What is France's capital?"), known()], rules(), 1)

    assert made is not None
    assert (made.example.id, made.is_served) == ("e1", True)


def test_what_a_pool_knows_is_left_alone() -> None:
    """It speaks of answers that need proof: many sure ones beside them would buy more wrong ones."""
    pools = Pools()

    made = [consider(asked(), [known()], rules(estimate="pooled"), seed, pools) for seed in range(50)]

    assert sum(one.is_served for one in made if one) > 40
    assert pools.of(asked()).affordable(0, 1.0) == Pools().of(asked()).affordable(0, 1.0)


async def test_an_answer_that_was_redacted_is_never_given() -> None:
    """Its words are not what the model said."""
    raw = example(request="Who is ann@example.com?", response="Ann, ann@example.com.", answer_key="k")

    kept, _ = await cleansed(raw, raw.request, PrivacyPolicy(), clean, HashingEmbedder())

    assert kept.response != raw.response
    for words in (raw.request, kept.request):
        assert asked_before(asked(words), [Candidate(kept, 0.0)], AnswersPolicy(identical="all")) is None


observations = st.lists(st.builds(Observation, st.floats(0, 2), st.booleans(), st.just(NOW)), max_size=12).map(tuple)


@given(observations, st.integers(0, 2**63), st.floats(0.001, 0.5))
def test_it_is_free_until_the_same_words_were_answered_wrongly(
    noted: tuple[Observation, ...], seed: int, max_error: float
) -> None:
    """Then it is just as if the line were off."""
    found = known(observations=noted)
    with_it, without = (
        consider(asked(), [found], rules(max_error=max_error, identical=how), seed) for how in ("deterministic", "off")
    )
    is_doubted = any(not one.is_correct and one.distance <= 0.001 for one in noted)

    assert with_it is not None
    if is_doubted:
        assert with_it == without
    else:
        assert with_it.explore_chance == LEAST_EXPLORING


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30), st.booleans(), st.sampled_from(["k", "l"]))
def test_only_the_same_words_under_the_same_key_at_no_chance(
    stored: str, text: str, is_deterministic: bool, key: str
) -> None:
    """Whatever the words are."""
    one = asked(text, is_deterministic=is_deterministic, answer_key=key)

    made = asked_before(one, [known(request=stored)], RULES)

    assert made is None or (is_deterministic and key == "k" and text.strip() == stored.strip())


@given(st.integers(0, 2**63))
def test_it_never_serves_less_than_the_proof_alone(seed: int) -> None:
    """For one draw, whatever is proven."""

    def given_by(how: str) -> StoredAnswer | None:
        found = known(observations=(seen(True),) * 40)
        return consider(asked(), [found], rules(identical=how, max_error=0.05), seed)

    alone, made = given_by("off"), given_by("deterministic")

    assert alone is not None
    assert made is not None
    assert made.is_served or not alone.is_served
