"""What may be stored of an example, and under which vector."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from echo_proxy.admission.cleanse import cleansed
from echo_proxy.admission.refused import Refused
from echo_proxy.errors import EmbedderError, PolicyError
from echo_proxy.policy_keeping import PresidioPolicy, PrivacyPolicy
from echo_proxy.privacy.clean import Cleaned
from tests.builders import example
from tests.fakes import HashingEmbedder

EMBEDDER = HashingEmbedder()
RULES = PrivacyPolicy()


def without_names(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
    """Takes out Ann, rejects Bob."""
    if any("Bob" in text for text in texts):
        return Cleaned((), {"name": 1}, "name")
    return Cleaned(tuple(text.replace("Ann", "[name 1]") for text in texts))


async def test_what_holds_nothing_private_stays_as_it_is() -> None:
    """Nothing is embedded again."""
    embedder = HashingEmbedder()
    made = example(answer_key="k")

    kept, asked = await cleansed(made, made.request, RULES, without_names, embedder)

    assert kept is made
    assert (asked, embedder.n_texts) == (made.request, 0)


async def test_a_vector_never_stands_for_words_that_were_taken_out() -> None:
    """It is made anew from what is left; and such an answer is never served as it stands."""
    made = example(request="Where is Ann?", response="Ann is out.", system="Ask Ann.", answer_key="k")

    kept, asked = await cleansed(made, "Where is Ann?", RULES, without_names, EMBEDDER)

    assert (kept.request, kept.response, kept.system) == ("Where is [name 1]?", "[name 1] is out.", "Ask [name 1].")
    assert np.array_equal(kept.vector, EMBEDDER.vector("Where is [name 1]?"))
    assert (asked, kept.answer_key) == ("Where is [name 1]?", "")


async def test_a_dialogue_s_vector_stands_for_the_turn_before_too() -> None:
    """Which is not stored, but was embedded."""
    made = example(request="And where now?")

    kept, _ = await cleansed(made, "Where is Ann?\nAnd where now?", RULES, without_names, EMBEDDER)

    assert np.array_equal(kept.vector, EMBEDDER.vector("Where is [name 1]?\nAnd where now?"))


async def test_an_answer_alone_changes_no_vector() -> None:
    """The request's words are still the same."""
    made = example(response="Ann is out.")

    kept, _ = await cleansed(made, made.request, RULES, without_names, EMBEDDER)

    assert np.array_equal(kept.vector, made.vector)


@pytest.mark.parametrize("field", ["request", "response", "system"])
async def test_what_must_not_be_kept_is_refused_with_its_kind(field: str) -> None:
    """Wherever it stands."""
    made = example(**{field: "Bob"})

    with pytest.raises(Refused, match="privacy:name"):
        await cleansed(made, made.request, RULES, without_names, EMBEDDER)


async def test_what_cannot_be_embedded_anew_is_refused() -> None:
    """An old vector in its place would tell the words."""

    class Broken(HashingEmbedder):
        async def embed(self, texts: Sequence[str]) -> np.ndarray:
            raise EmbedderError("away")

    with pytest.raises(Refused, match="no_vector"):
        await cleansed(example(request="Ann?"), "Ann?", RULES, without_names, Broken())


@pytest.mark.parametrize("error", [PolicyError("no Presidio"), ValueError("odd text"), KeyError("odd entity")])
async def test_what_cannot_be_looked_through_is_refused(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """On the loop and in a thread; the log says why, but quotes no text."""

    def fails(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
        raise error

    for text in ("short", "x" * 600):
        with pytest.raises(Refused, match="privacy:failed"):
            await cleansed(example(request=text), text, RULES, fails, EMBEDDER)

    assert ("no Presidio" in caplog.text) is isinstance(error, PolicyError)
    assert "odd" not in caplog.text


@pytest.mark.parametrize(
    ("rules", "text", "is_beside"),
    [(RULES, "short", False), (PrivacyPolicy(presidio=PresidioPolicy()), "short", True), (RULES, "x" * 500, True)],
    ids=["patterns", "presidio", "long"],
)
async def test_what_takes_long_runs_beside_the_loop(rules: PrivacyPolicy, text: str, is_beside: bool) -> None:
    """Requests are being planned on it."""
    seen: list[int] = []

    def clean(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
        seen.append(threading.get_ident())
        return Cleaned(tuple(texts))

    await asyncio.wait_for(cleansed(example(request=text), text, rules, clean, EMBEDDER), 5)

    assert (seen[0] != threading.get_ident()) is is_beside


def without_numbers(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
    """Takes out 42."""
    return Cleaned(tuple(text.replace("42", "[card 1]") for text in texts))


async def test_json_stays_json() -> None:
    """An object that no parser takes teaches nothing good; in a string, and where no JSON is wanted, nothing breaks."""
    broken = example(request="Which?", response='{"card": 42}', wants_json=True)
    quoted, wordy = replace(broken, response='{"card": "42"}'), replace(broken, wants_json=False)
    with pytest.raises(Refused, match="privacy:json"):
        await cleansed(broken, "Which?", RULES, without_numbers, EMBEDDER)
    kept = [(await cleansed(one, "Which?", RULES, without_numbers, EMBEDDER))[0].response for one in (quoted, wordy)]

    assert kept == ['{"card": "[card 1]"}', '{"card": [card 1]}']
