"""Whether the privacy rules of policies can be applied."""

import importlib.util

import pytest

from echo_proxy.errors import PolicyError
from echo_proxy.policy_keeping import AdmissionPolicy, PresidioPolicy, PrivacyPolicy
from echo_proxy.privacy import presidio
from echo_proxy.privacy.ready import make_ready
from tests.builders import policy


def test_a_model_that_is_missing_is_told_with_the_policy() -> None:
    """Whichever of them wants it."""
    rules = PrivacyPolicy(presidio=PresidioPolicy(model="en_core_web_none"))
    wants = policy(name="other", admission=AdmissionPolicy(privacy=rules))

    with pytest.raises(PolicyError, match=r"policy other: admission\.privacy\.presidio\.model: expected an installed"):
        make_ready([policy(), wants])


def test_patterns_alone_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra may be missing."""
    monkeypatch.setattr(presidio, "find_spec", lambda name: None if name == "spacy" else importlib.util.find_spec(name))

    make_ready([policy()])
