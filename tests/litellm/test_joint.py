"""Requests that wait for the answer to the same one."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.hooks.responses_id_security import ResponsesIDSecurity

from echo_proxy.litellm.hooks import EchoCallback
from echo_proxy.litellm.joint import (
    JointFlights,
    Lead,
    is_shareable,
    joint_key,
    may_change_streams,
    patience_of,
)
from echo_proxy.online.receive import receive
from echo_proxy.policy import Policy
from echo_proxy.types import Call, Caller, Conditions, Forecast, Message, Request
from tests.builders import NOW, answer, call, candidate, decision, plan, policy, selection, situation
from tests.fakes import FrozenClock

TOGETHER: dict[str, Any] = {"answers": {"single_flight": "all"}}
FIXED = '{"temperature":0}'


def request_of(one: Call, rules: Policy) -> Request:
    made = receive(one, rules, NOW)
    assert isinstance(made, Request)
    return made


def key(
    rules: Policy | None = None, readers: Sequence[str] = (), at: Sequence[str] = ("large",), **changes: Any
) -> str:
    """Of a call whose prompt may hold an example for each of the readers, and which may be answered there."""
    one, rules = call(**changes), rules or policy(**TOGETHER)
    shown = selection(*(candidate(f"e{n}", reader=reader) for n, reader in enumerate(readers)))
    return joint_key(one, plan(request=request_of(one, rules), selection=shown), rules, at)


def flights_of(
    *keys: str, patience_s: float = 60.0, clock: FrozenClock | None = None
) -> tuple[JointFlights, list[Lead]]:
    """With a leader for each key."""
    made = JointFlights((clock or FrozenClock()).monotonic)
    return made, [lead for one in keys if (lead := made.lead(one, patience_s))]


async def turn() -> None:
    """Everybody who can go on does."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "Another question?"},
        {"caller": Caller(key="b")},
        {"parameters": FIXED},
        {"model_group": "elsewhere"},
        {"preference": 0.3},
        {"wants_json": True},
        {"messages": (Message("system", "Be brief."), Message("user", "What is the capital of France?"))},
    ],
)
def test_only_the_same_request_follows(changes: dict[str, Any]) -> None:
    """Words, tenant, parameters, group, preference, format and what came before."""
    assert key() == key(call_id="call-2", endpoint="messages", is_streamed=True)
    assert "" != key(**changes) != key()


def test_an_example_in_quarantine_serves_its_reader_alone() -> None:
    """An answer tells of the examples in its prompt: whoever may be shown such a one shares answers with nobody else
    of the scope. Examples that are open to all keep nobody apart."""
    team, a, b = policy(scope="team", **TOGETHER), Caller(key="a", team="red"), Caller(key="b", team="red")
    plain = key(team, caller=b)

    assert key(team, caller=a) == key(team, ["", ""], caller=a) == plain
    assert key(team, ["", "a"], caller=a) == key(team, ["a"], caller=a) != plain
    assert key(team, ["b"], caller=b) not in (plain, key(team, ["a"], caller=a))


def test_other_wider_scopes_share_no_answer() -> None:
    """One may hold examples of a domain that the other may not read."""
    rules = policy(scope="team", sharing={"scopes": ["domain"]}, **TOGETHER)
    keys = {key(rules, caller=Caller(key="a", team="red", domain=domain)) for domain in ("med", "legal", None)}

    assert len(keys) == 3


def test_other_deployments_share_no_answer() -> None:
    """LiteLLM may let a key be answered by some of them alone."""
    assert key(at=["large", "small"]) == key(at=["small", "large"]) != key(at=["large"])


@pytest.mark.parametrize(
    ("forecasts", "expected"),
    [({}, 10.0), ({"large+0": 1.0, "small+2": 30.0}, 10.0), ({"large+0": 9.0}, 27.0), ({"large+0": 500.0}, 60.0)],
)
def test_a_leader_is_waited_for_as_long_as_it_may_well_take(forecasts: dict[str, float], expected: float) -> None:
    """Three times what is expected of its arm, within bounds."""
    known = Conditions(forecasts={arm: Forecast(0.0, latency_s, 5.0) for arm, latency_s in forecasts.items()})
    made = plan(decision=decision(situation=situation(conditions=known)))

    assert patience_of(made) == expected
    assert patience_of(plan()) == 10.0


class _Rewriter(CustomLogger):
    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: Any
    ) -> Any:
        yield


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        ("langfuse", False),
        (CustomLogger(), False),
        (EchoCallback(), False),
        (ResponsesIDSecurity(), False),
        (_Rewriter(), True),
        (CustomGuardrail(), True),
    ],
)
def test_who_may_change_a_stream_is_known(callback: object, expected: bool) -> None:
    """Guardrails, and hooks of the operator; not LiteLLM's own, nor ours."""
    assert may_change_streams(callback) is expected


@pytest.mark.parametrize(
    ("rules", "changes"),
    [
        (policy(), {}),
        (policy(answers={"single_flight": "off"}), {"parameters": FIXED}),
        (policy(answers={}), {}),
        (policy(mode="shadow", **TOGETHER), {}),
        (policy(**TOGETHER), {"parameters": None}),
        (policy(**TOGETHER), {"wants_fresh": True}),
        (policy(**TOGETHER), {"is_unkept": True}),
        (policy(**TOGETHER), {"caller": Caller(key="a", is_unkept=True)}),
    ],
)
def test_some_have_their_own_answer(rules: Policy, changes: dict[str, Any]) -> None:
    """Without the line of policy, where answers may differ, or where the caller wants it."""
    assert key(rules, **changes) == ""


def test_what_is_deterministic_is_shared_by_default() -> None:
    """Temperature 0 promises the same answer to all."""
    assert key(policy(answers={}), parameters=FIXED) != ""


async def test_followers_get_the_answer() -> None:
    """All of them, once it is there; who comes later begins anew."""
    flights, (lead,) = flights_of("k")
    waiting = [asyncio.create_task(flights.follow("k", None)) for _ in range(3)]
    await turn()

    flights.land(lead, answer("Paris."))
    flights.land(lead, None)

    assert [one.text for one in await asyncio.gather(*waiting) if one] == ["Paris."] * 3
    assert (flights.has_leader("k"), len(flights), await flights.follow("k", None)) == (False, 0, None)


async def test_one_follower_leads_when_the_leader_fails() -> None:
    """The others follow it; when it fails too, they go alone."""
    flights, (first,) = flights_of("k")
    led: list[Any] = []

    async def ask() -> str:
        if flights.has_leader("k") and (found := await flights.follow("k", None)):
            return found.text
        if not flights.has_leader("k"):
            led.append(flights.lead("k", 60.0))
            return "led"
        return "alone"

    waiting = [asyncio.create_task(ask()) for _ in range(3)]
    await turn()
    flights.land(first, None)
    await turn()
    n_led = len(led)
    flights.land(led[0], None)

    assert n_led == 1
    assert sorted(await asyncio.gather(*waiting)) == ["alone", "led", "led"]


async def test_a_leader_that_is_cancelled_lets_go() -> None:
    """Its task ends, and with it the waiting."""
    flights, _ = flights_of()

    async def lead() -> None:
        flights.lead("k", 60.0)
        await asyncio.Event().wait()

    task = asyncio.create_task(lead())
    await turn()
    follower = asyncio.create_task(flights.follow("k", None))
    await turn()
    task.cancel()

    assert await follower is None
    assert len(flights) == 0


async def test_a_follower_that_is_cancelled_leaves_the_others_alone() -> None:
    """The leader and the other followers do not notice."""
    flights, (lead,) = flights_of("k")
    leaver, stayer = (asyncio.create_task(flights.follow("k", None)) for _ in range(2))
    await turn()
    leaver.cancel()
    await turn()
    flights.land(lead, answer("Paris."))

    found = await stayer

    assert found is not None
    assert found.text == "Paris."
    assert leaver.cancelled()


async def test_nobody_waits_beyond_its_deadline() -> None:
    """The leader and the others are left alone: they may have more time."""
    flights, (lead,) = flights_of("k")
    other = asyncio.create_task(flights.follow("k", None))

    late = [await flights.follow("k", 0.0), await flights.follow("k", -1.0)]
    flights.land(lead, answer("Late."))
    found = await other

    assert late == [None, None]
    assert found is not None
    assert found.text == "Late."


async def test_a_slow_leader_holds_nobody_up_for_long() -> None:
    """Those that wait go alone at its time, those that come later do not wait, and its words are not led again for a
    while: else a caller could keep a whole scope waiting."""
    clock = FrozenClock()
    flights, (slow,) = flights_of("k", patience_s=0.0, clock=clock)

    found = [await flights.follow("k", None) for _ in range(2)]
    led = [flights.lead("k", 60.0), flights.lead("another", 60.0)]
    flights.land(slow, answer("Late."))
    clock.time += 61

    assert found == [None, None]
    assert [one is not None for one in led] == [False, True]
    assert not flights.has_leader("k")
    assert flights.lead("k", 60.0) is not None


async def test_there_is_one_leader_at_a_time() -> None:
    """The first."""
    flights, (first,) = flights_of("k")

    second = flights.lead("k", 60.0)
    flights.land(first, None)

    assert second is None
    assert flights.lead("k", 60.0) is not None


async def test_a_flight_that_leads_nobody_may_land() -> None:
    """Most flights do."""
    flights, _ = flights_of()

    flights.land(None, answer())

    assert len(flights) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"finish_reason": "completed"}, True),
        ({"finish_reason": "length"}, False),
        ({"finish_reason": "tool_calls"}, False),
        ({"was_read_to_end": False}, False),
        ({"may_keep": False}, False),
        ({"error": "Timeout"}, False),
        ({"text": " "}, False),
    ],
)
def test_only_a_whole_answer_is_shared(changes: dict[str, Any], expected: bool) -> None:
    """Neither errors nor what was cut, left, redacted, empty or a call of a tool."""
    assert is_shareable(answer(**changes)) is expected
