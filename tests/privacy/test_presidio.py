import importlib.util
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from echo_proxy.errors import PolicyError
from echo_proxy.policy_keeping import PresidioPolicy, PrivacyPolicy
from echo_proxy.privacy import presidio
from echo_proxy.privacy.clean import clean

PASSPORT = "My passport number is 912803456."


def found(text: str, rules: PresidioPolicy) -> list[tuple[str, str]]:
    """Kind and text of what Presidio finds."""
    return sorted({(one.kind, text[one.start : one.end]) for one in presidio.find(text, rules)})


def test_it_finds_by_pattern_and_context_without_a_model() -> None:
    """A number is a passport's where the word stands beside it; kinds that we know too carry our names."""
    rules = PresidioPolicy(min_score=0.4)

    assert ("us_passport", "912803456") in found(PASSPORT, rules)
    assert found("The order 912803456 was shipped.", rules) == []
    assert ("phone", "(212) 555-0123") in found("Phone: (212) 555-0123", rules)


def test_what_it_finds_is_cleaned_like_the_rest() -> None:
    """Under its own name, by the policy's action for personal data or for that kind."""
    rules = PresidioPolicy(min_score=0.4)

    assert clean([PASSPORT], PrivacyPolicy(presidio=rules)).texts == ("My passport number is [us_passport 1].",)
    assert clean([PASSPORT], PrivacyPolicy(presidio=rules, kinds={"us_passport": "keep"})).texts == (PASSPORT,)


def test_the_policy_may_name_what_is_looked_for() -> None:
    """Dates are looked for only when they are named; addresses and links likewise."""
    text = "On 2024-05-01 write to a@example.com"

    assert found(text, PresidioPolicy()) == []
    assert found(text, PresidioPolicy(entities=("EMAIL_ADDRESS",))) == [("email", "a@example.com")]


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a list of domains nor a model: no address is resolved, no connection opened."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert found("a@example.com", PresidioPolicy(entities=("EMAIL_ADDRESS",), min_score=0.45)) == [
        ("email", "a@example.com")
    ]
    with pytest.raises(PolicyError):
        presidio.load(PresidioPolicy(model="en_core_web_none"))


def test_a_model_that_is_not_installed_stops_the_start() -> None:
    """With the field and what to do."""
    with pytest.raises(PolicyError, match=r"admission\.privacy\.presidio\.model: expected an installed spaCy model"):
        presidio.load(PresidioPolicy(model="en_core_web_none"))


def test_a_package_that_is_no_model_stops_the_start() -> None:
    """Likewise a model of another version of spaCy's."""
    with pytest.raises(PolicyError, match=r"presidio\.model: expected a spaCy model that can be loaded, got pytest: "):
        presidio.load(PresidioPolicy(model="pytest"))


def test_an_unknown_entity_or_language_stops_the_start() -> None:
    """With what there is."""
    with pytest.raises(PolicyError, match=r"presidio\.entities: expected some of .*CREDIT_CARD.*, got PERSONA"):
        presidio.load(PresidioPolicy(entities=("PERSONA",)))
    with pytest.raises(PolicyError, match=r"presidio\.language: expected a language of spaCy's, got 'qq'"):
        presidio.load(PresidioPolicy(language="qq"))


def test_a_missing_extra_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of keeping what the operator wanted cleaned."""
    monkeypatch.setattr(presidio, "find_spec", lambda name: None if name == "spacy" else importlib.util.find_spec(name))

    with pytest.raises(PolicyError, match=r"admission\.privacy\.presidio: expected the extra `privacy`"):
        presidio.load(PresidioPolicy(min_score=0.123))


def test_threads_share_one_analyzer() -> None:
    """Whichever comes first loads it."""
    rules = PresidioPolicy(min_score=0.321)
    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(presidio.load, [rules] * 8))

    assert {id(one) for one in loaded} == {id(loaded[0])}
