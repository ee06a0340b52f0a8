import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.online.receive import answer_key_of, new_id, own_scope, partition_of, receive, scope_of
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


KNOWN = Caller(key="a", team="red", organization="acme", user="ann", domain="billing")


def test_wider_scopes_are_those_that_the_caller_belongs_to() -> None:
    """In the policy's order; without the identity there is no part in the scope, and never another's."""
    shared = policy(sharing={"scopes": ["team", "domain", "public"]})
    known = receive(call(caller=KNOWN), shared, NOW)
    stranger = receive(call(caller=Caller(key="b")), shared, NOW)

    assert isinstance(known, Request)
    assert isinstance(stranger, Request)
    assert (known.scope, known.wider) == ("key:a", ("team:red", "domain:billing", "public:all"))
    assert (stranger.scope, stranger.wider) == ("key:b", ("public:all",))


def test_without_sharing_there_is_one_scope() -> None:
    """Wider ones are an explicit line of policy."""
    made = receive(call(caller=KNOWN), policy(), NOW)

    assert isinstance(made, Request)
    assert made.wider == ()


def test_a_policy_may_name_the_domain_of_teams_that_name_none() -> None:
    """The key's own goes before."""
    rules = policy(scope="domain", domain="general")

    assert own_scope(KNOWN, rules) == "domain:billing"
    assert own_scope(Caller(key="b"), rules) == "domain:general"
    assert own_scope(Caller(key="b"), policy(scope="domain")) == "key:b"


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": '{"temperature": 1}'},
        {"wants_json": True},
        {"model_group": "other"},
        {"messages": (Message("system", "Be brief."), Message("user", "Hi"))},
        {"messages": (Message("user", "Yo"), Message("assistant", "Yes?"), Message("user", "Hi"))},
    ],
)
def test_what_shapes_an_answer_is_in_its_key(changes: dict[str, object]) -> None:
    """The last turn is not: it is compared by distance."""
    plain, other = received(messages=(Message("user", "Hi"),)), received(**changes)
    reworded = received(messages=(Message("user", "Hello"),))

    assert reworded.answer_key == plain.answer_key != other.answer_key


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=3)), min_size=1, max_size=4),
    st.text(max_size=3),
)
def test_no_two_dialogues_share_a_key(turns: list[tuple[str, str]], system: str) -> None:
    """Texts cannot move from one field into another."""
    dialogue = [Message(role, text) for role, text in turns]  # type: ignore[arg-type]
    moved = [*dialogue[:-1], Message("user", system), *dialogue[-1:]]

    assert answer_key_of(call(), system, dialogue) != answer_key_of(call(), system, moved)


def test_the_caller_may_keep_its_answers_out_of_the_store() -> None:
    """Where the policy allows it."""
    strict = receive(call(is_unkept=True), policy(admission={"allow_client_no_store": False}), NOW)

    assert isinstance(strict, Request)
    assert received(is_unkept=True).is_unkept
    assert not strict.is_unkept


def test_what_the_operator_says_of_a_key_holds_whatever_the_policy_allows() -> None:
    """Its answers are not kept."""
    strict = policy(admission={"allow_client_no_store": False})

    made = receive(call(caller=Caller(key="a", is_unkept=True)), strict, NOW)

    assert isinstance(made, Request)
    assert made.is_unkept


def test_an_answer_whose_parameters_are_not_known_is_nobody_else_s() -> None:
    """It has no key, and no stored one is given in its place."""
    made = received(parameters=None, wants_fresh=True)

    assert (made.answer_key, made.wants_fresh) == ("", True)


@pytest.mark.parametrize(("parameters", "expected"), [('{"temperature":0}', True), ("", False), (None, False)])
def test_a_request_knows_whether_its_answer_hangs_on_chance(parameters: str | None, expected: bool) -> None:
    """By its parameters, where they can be told."""
    made = receive(call(parameters=parameters), policy(), NOW)

    assert isinstance(made, Request)
    assert made.is_deterministic is expected


def test_a_conversation_begins_with_its_first_user_turn() -> None:
    """Whatever stands before it: one greeting begins many."""
    greeting = Message("assistant", "How can I help?")
    made = [
        receive(call(messages=turns), policy(), NOW)
        for turns in (
            (greeting, Message("user", "a")),
            (greeting, Message("user", "b")),
            (greeting, Message("user", "a"), Message("assistant", "A."), Message("user", "c")),
        )
    ]
    first, other, later = (one.conversation for one in made if isinstance(one, Request))

    assert first != other
    assert first == later


def test_a_key_s_own_domain_counts_where_the_policy_trusts_it() -> None:
    """Users write the metadata of the keys that they make; what they write there must not open others' domains."""
    caller = Caller(key="a", domain="law", key_domain="finance")
    trusting = policy(scope="domain", trust_key_domains=True)

    assert own_scope(caller, policy(scope="domain")) == "domain:law"
    assert own_scope(Caller(key="a", key_domain="finance"), policy(scope="domain")) == "key:a"
    assert own_scope(caller, trusting) == "domain:finance"
    assert own_scope(KNOWN, trusting) == "domain:billing"


def test_words_of_an_assistant_before_the_first_question_are_a_turn_of_their_own() -> None:
    """The answer may hang on them, though nobody is shown to have asked for them."""
    turns = (Message("assistant", "You are in Bonn."), Message("user", "Where am I?"))

    assert request(dialogue=turns).n_user_turns == 2
    assert request(dialogue=turns[1:]).n_user_turns == 1


def test_a_person_is_a_user_or_else_a_key() -> None:
    """All keys of a user are one person; the hash tells nothing of a key and cannot be mistaken for one."""
    ann = [Caller(key=key, user="ann").person for key in ("a", "b")]

    assert ann[0] == ann[1]
    assert len({ann[0], Caller(key="a").person, Caller(key="b").person, Caller(key="ann").person}) == 4
