import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.online.receive import new_id, partition_of, receive, scope_of
from echo_proxy.types import Caller, Message, PassThrough, Request
from tests.builders import NOW, call, policy, request

identities = st.none() | st.text(max_size=8)
callers = st.builds(Caller, key=st.text(min_size=1), team=identities, organization=identities, user=identities)
SHARES = ["key", "team", "organization", "user"]


def received(**changes: object) -> Request:
    made = receive(call(**changes), policy(), NOW)
    assert isinstance(made, Request)
    return made


def test_a_call_becomes_a_request_of_its_caller() -> None:
    """System messages are taken out of the dialogue; the rest stays in order."""
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Bye"),
    )

    made = received(messages=turns, wants_json=True, is_streamed=True)

    assert made.call_id == "call-1"
    assert made.system == "Be brief."
    assert made.dialogue == turns[1:]
    assert made.text == "Bye"
    assert made.scope == "key:a"
    assert (made.wants_json, made.is_streamed, made.received_at) == (True, True, NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"is_opted_out": True}, "opt_out"),
        ({"obstacle": "tools"}, "tools"),
        ({"messages": ()}, "no_user_turn"),
        ({"messages": (Message("system", "Be brief."),)}, "no_user_turn"),
        ({"messages": (Message("user", "Hi"), Message("assistant", "Hel"))}, "no_user_turn"),
        ({"messages": (Message("user", " \n "),)}, "no_user_turn"),
    ],
)
def test_what_is_not_ours_is_passed_through(changes: dict[str, object], reason: str) -> None:
    """The reason is what gets counted."""
    made = receive(call(**changes), policy(), NOW)

    assert made == PassThrough(reason)


def test_an_operator_may_forbid_opting_out() -> None:
    """Then the header changes nothing."""
    made = receive(call(is_opted_out=True), policy(allow_client_opt_out=False), NOW)

    assert isinstance(made, Request)


@pytest.mark.parametrize(
    ("share", "scope"),
    [
        ("key", "key:k"),
        ("team", "team:t"),
        ("organization", "organization:o"),
        ("user", "user:u"),
        ("public", "public:all"),
    ],
)
def test_the_policy_says_who_shares(share: str, scope: str) -> None:
    """Each kind of sharing takes its own identity."""
    assert scope_of(Caller("k", "t", "o", "u"), share) == scope


@given(callers, callers, st.sampled_from(SHARES))
def test_only_who_agrees_in_the_identity_shares(one: Caller, other: Caller, share: str) -> None:
    """Two callers share a scope exactly when they agree in the shared identity, or, lacking it, in their key."""
    field = {"key": "key"}.get(share, share)

    def who(caller: Caller) -> tuple[str, str]:
        wide = getattr(caller, field)
        return (share, wide) if wide else ("key", caller.key)

    assert (scope_of(one, share) == scope_of(other, share)) == (who(one) == who(other))


@given(st.text(min_size=1), st.sampled_from(SHARES), st.sampled_from([None, ""]))
def test_who_lacks_the_identity_stays_alone(key: str, share: str, nobody: str | None) -> None:
    """Falling back to a shared scope would mix tenants."""
    assert scope_of(Caller(key, nobody, nobody, nobody), share) == f"key:{key}"


def test_requests_share_examples_only_in_the_same_partition() -> None:
    """System prompt and response format change what a question means."""
    partitions = {partition_of(system, as_json) for system in ("", "Be brief.") for as_json in (False, True)}

    assert len(partitions) == 4
    assert partition_of("Be brief.", True) == partition_of("Be brief.", True)
    assert all(len(partition) == 16 for partition in partitions)


def test_the_request_s_partition_holds_system_and_format() -> None:
    """A request that asks for JSON does not see examples in prose."""
    plain, as_json = received(), received(wants_json=True)
    told = received(messages=(Message("system", "Be brief."), Message("user", "Hi")))

    assert len({plain.partition, as_json.partition, told.partition}) == 3


def test_ids_are_ordered_by_time_and_never_the_same() -> None:
    """Later ids sort after earlier ones; their second half cannot be guessed."""
    early, late, twin = new_id(NOW), new_id(NOW + 0.001), new_id(NOW)

    assert early < late
    assert early[:12] == twin[:12]
    assert early != twin
    assert len(early) == 32


def test_user_turns_are_counted() -> None:
    """Answers between them do not count."""
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))

    assert request(dialogue=turns).n_user_turns == 2
