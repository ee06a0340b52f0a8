import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.policy_keeping import PrivacyPolicy
from echo_proxy.privacy.clean import Cleaned
from echo_proxy.transfer import claims as module
from echo_proxy.transfer.claims import Claims, Draft, draft_of
from echo_proxy.transfer.foreign import Unfit
from echo_proxy.transfer.rows import Row, row_of
from echo_proxy.types import Example, Observation
from tests.builders import NOW, policy
from tests.transfer.builders import example, full

SHARED = example(
    scope="team:red", confirmed_by=("x", "y"), observations=(Observation(0.1, True, NOW),), origin="traffic", reader=""
)


def draft(one: Example, rules: Any = None, now: float = NOW, **said: Any) -> Draft:
    """What an example of a file becomes."""
    row = Row.model_validate_json(json.dumps(row_of(one, None)))
    return draft_of(row, None, one.vector, Claims(**said), rules or policy(scope="team"), now)


def test_in_a_scope_of_many_it_serves_its_writer_alone() -> None:
    """Who is nobody, unless the command line names him, whatever the file says of writers, release, confirmations and
    proofs: a file can say anything."""
    made = draft(SHARED).example

    assert (made.writer, made.reader) == ("import", "import")
    assert made.confirmed_by == ()
    assert made.observations == ()
    assert made.origin == "import"


def test_a_trusted_file_is_believed() -> None:
    """A backup comes back as it was, what is in quarantine too."""
    held = replace(SHARED, reader="a")

    assert draft(SHARED, is_trusted=True).example == SHARED
    assert draft(held, is_trusted=True).example == held


def test_who_wrote_nothing_releases_nothing() -> None:
    """An empty reader would mean everybody."""
    assert draft(replace(SHARED, writer="")).example.reader == "import"


def test_without_quarantine_it_serves_at_once() -> None:
    """Where the policy has none, and where a scope is one key."""
    assert draft(SHARED, policy(scope="team", admission={"quarantine": None})).example.reader == ""
    assert draft(SHARED, scope="key:a").example.reader == ""
    assert draft(SHARED, scope="user:u", writer="a").example.reader == "a"


@pytest.mark.parametrize("scope", ["key:victim", "user:victim"])
def test_a_file_puts_nothing_before_one_person(scope: str) -> None:
    """There is no quarantine where one person's keys are: only the command line may name such a scope."""
    with pytest.raises(Unfit, match="scope of one key or user"):
        draft(replace(SHARED, scope=scope))
    assert draft(replace(SHARED, scope=scope), is_trusted=True).example.scope == scope


def test_a_file_s_word_on_worth_and_time_is_not_believed() -> None:
    """It could have its examples outlive all others, be shown first, and be served as answers."""
    one = replace(full(), expires_at=NOW + 9e9)
    made, ttl_s = draft(one).example, policy().admission.ttl_s

    assert (made.uses, made.gain, made.offloads, made.regret, made.answer_key, made.person) == (0, 0, 0, 0, "", "")
    assert made.expires_at == NOW + ttl_s
    assert draft(one, is_trusted=True).example.expires_at == NOW + 9e9


def test_the_command_line_goes_before_the_file() -> None:
    """Scope and writer; quarantine follows them."""
    made = draft(example(scope="key:a"), scope="team:blue", writer="w").example

    assert (made.scope, made.writer, made.reader) == ("team:blue", "w", "w")


def test_counts_are_kept_unless_they_shall_begin_anew() -> None:
    """uses, gain, offloads, regret; quality and history are no counts."""
    kept, fresh = (draft(full(), is_trusted=True, is_fresh=is_fresh).example for is_fresh in (False, True))

    assert (kept.uses, kept.gain, kept.offloads, kept.regret, kept.counted_at) == (3.5, 2.25, 1.5, 0.125, NOW - 5)
    assert (fresh.uses, fresh.gain, fresh.offloads, fresh.regret, fresh.counted_at) == (0, 0, 0, 0, NOW)
    assert (fresh.quality, fresh.history) == (0.75, full().history)


def test_nothing_comes_from_the_future() -> None:
    """An example that is always new would never be evicted."""
    made = draft(example(created_at=NOW + 999, counted_at=NOW + 999), is_trusted=True).example

    assert (made.created_at, made.counted_at) == (NOW, NOW)


def test_the_policy_s_limits_hold() -> None:
    """As for answers to callers."""
    with pytest.raises(Unfit, match="turns"):
        draft(example(n_turns=2))
    with pytest.raises(Unfit, match="tokens"):
        draft(example(n_tokens=2001))


@pytest.fixture
def privacy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cleaning that takes out `Zaphod` and rejects `secret`; which of the two functions was asked."""
    asked: list[str] = []

    def cleaner(name: str) -> Any:
        def clean(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
            asked.append(name)
            rejected = "api_key" if any("secret" in one for one in texts) else None
            return Cleaned(tuple(one.replace("Zaphod", "[name 1]") for one in texts), {"name": 1}, rejected)

        return clean

    monkeypatch.setattr(module, "clean", cleaner("clean"))
    monkeypatch.setattr(module, "without_personal_data", cleaner("without_personal_data"))
    return asked


def test_privacy_holds_for_files_too(privacy: list[str]) -> None:
    """What is taken out of a request is out of its vector too; a changed answer is never served by itself."""
    asks = draft(example(request="Where is Zaphod?", answer_key="k"), is_trusted=True)
    answers = draft(example(response="With Zaphod.", answer_key="k"), is_trusted=True)
    neither = draft(example(answer_key="k"), is_trusted=True)

    assert (asks.example.request, asks.text, asks.needs_vector) == ("Where is [name 1]?", "Where is [name 1]?", True)
    assert (answers.example.response, answers.needs_vector, answers.example.answer_key) == ("With [name 1].", False, "")
    assert (neither.needs_vector, neither.example.answer_key) == (False, "k")
    assert asks.n_found == {"name": 1}
    with pytest.raises(Unfit, match="holds api_key"):
        draft(example(system="my secret"), is_trusted=True)


def test_a_scope_beside_the_policy_s_own_gets_no_personal_data(privacy: list[str]) -> None:
    """Strangers to the writer read there, whatever the policy keeps for its own scope."""
    for scope in ("key:a", "team:red", "organization:o", "public:all"):
        draft(example(), scope=scope)

    assert privacy == ["clean", "clean", "without_personal_data", "without_personal_data"]
