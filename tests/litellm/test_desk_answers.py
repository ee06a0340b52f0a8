"""What Echo does at LiteLLM's hooks where no model is asked: stored answers, and those of the same request."""

import asyncio
from collections.abc import Mapping
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_guardrail import CustomGuardrail

from echo_proxy.app import App
from echo_proxy.lane import Lane
from echo_proxy.litellm.calls import call_from
from echo_proxy.litellm.desk import Desk
from echo_proxy.online.receive import answer_key_of, partition_of
from echo_proxy.settings import Settings
from echo_proxy.types import STORED, DecisionRecord, Observation
from tests.builders import NOW, example, lane, policy
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

# LiteLLM's own models, not ours, make pydantic warn when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")

HASH = "0123456789abcdef" * 4
ANOTHER = "fedcba9876543210" * 4
TEXT = "What is the capital of France?"
TO_SMALL = {"bandit": {"kind": "fixed", "floor": 1e-9, "probabilities": {"small+2": 1.0}}}
TO_LARGE = {"bandit": {"kind": "fixed", "floor": 1e-9, "probabilities": {"large+0": 1.0}}}
ANSWERS = {"answers": {"max_error": 0.5, "single_flight": "all"}}
LARGE = {"model_name": "auto", "litellm_params": {"model": "large"}, "model_info": {"id": "id-large"}}
SMALL = {"model_name": "auto", "litellm_params": {"model": "m-small"}, "model_info": {"id": "small"}}
HEALTHY = [SMALL, LARGE]


class _Away(Exception):
    status_code = 503


@pytest.fixture(autouse=True)
def litellm_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered there is forgotten with the test."""
    monkeypatch.setattr(litellm, "custom_provider_map", [])
    monkeypatch.setattr(litellm, "model_cost", dict(litellm.model_cost))


def kwargs_of(call_id: str = "c1", headers: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    metadata = {
        "user_api_key_request_route": "/v1/chat/completions",
        "user_api_key_hash": HASH,
        "headers": dict(headers or {}),
    }
    body = {"messages": [{"role": "user", "content": TEXT}], **more}
    return {"litellm_call_id": call_id, "metadata": metadata, **body, "proxy_server_request": {"body": body}}


def attempt_on(one: Mapping[str, Any], call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {**kwargs_of(call_id, **more), "model": one["litellm_params"]["model"], "model_info": one["model_info"]}


def event(
    served_by: str = "id-large", call_id: str = "c1", reason: str = "stop", text: str = "Paris."
) -> tuple[dict[str, Any], dict[str, Any]]:
    report = {"model_id": served_by, "completion_tokens": 3, "startTime": NOW, "endTime": NOW + 1}
    body = {"choices": [{"message": {"content": text}, "finish_reason": reason}]}
    told = {"litellm_params": {"metadata": kwargs_of()["metadata"]}, "standard_logging_object": report}
    return {"litellm_call_id": call_id, **told}, body


class World:
    """A desk with one lane over fakes."""

    def __init__(self, **changes: Any) -> None:
        self.store = MemoryStore()
        self.lane: Lane = lane(policy(**{**TO_LARGE, **ANSWERS, **changes}), self.store)
        self.clock = FrozenClock(NOW)
        self.desk = Desk(App(Settings(policy="nowhere"), [self.lane], HashingEmbedder()), self.clock)

    async def pick(self, kwargs: dict[str, Any] | None = None, healthy: Any = None) -> list[Any]:
        kwargs = kwargs or kwargs_of()
        picked = await self.desk.pick("auto", HEALTHY if healthy is None else healthy, kwargs["messages"], kwargs)
        return list(picked)

    async def ids(self, kwargs: dict[str, Any] | None = None) -> list[str]:
        return [one["model_info"]["id"] for one in await self.pick(kwargs)]

    def follow(self, call_id: str, **more: Any) -> "asyncio.Task[list[str]]":
        return asyncio.create_task(self.ids(kwargs_of(call_id, **more)))

    def fly(self, call_id: str = "c1", **more: Any) -> None:
        """The model has answered."""
        self.desk.equip(attempt_on(LARGE, call_id))
        self.desk.note_answer(*event(call_id=call_id, **more))

    def heads(self, call_id: str = "c1") -> Mapping[str, str]:
        return self.desk.headers(kwargs_of(call_id))

    def in_flight(self) -> float:
        return sum(load.in_flight for load in self.lane.parts.knowledge.board.own(NOW).values())

    def counted(self) -> Mapping[str, float]:
        return {name: amount for (_, name), amount in self.lane.counts.take().items()}

    async def records(self) -> Mapping[str, DecisionRecord]:
        await self.lane.write()
        return self.store.records


async def proven(**changes: Any) -> World:
    """One whose store holds an answer to TEXT that was right sixty times."""
    world = World(**changes)
    call = call_from("auto", kwargs_of()["messages"], kwargs_of())
    await world.store.add(
        example(
            scope=f"key:{HASH}",
            partition=partition_of("", False),
            vector=HashingEmbedder().vector(TEXT),
            answer_key=answer_key_of(call, "", call.messages),
            observations=tuple(Observation(0.0, True, NOW) for _ in range(60)),
            created_at=NOW - 30,
        )
    )
    return world


async def turn() -> None:
    """Everybody who can go on does."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_proven_answer_takes_the_place_of_a_model() -> None:
    """No arm is busy with it; the headers tell whose answer it is."""
    world = await proven()

    (picked,) = await world.pick()

    assert (picked["model_info"]["id"], picked["litellm_params"]["model"]) == (STORED, "echo_stored/answer")
    assert world.in_flight() == 0
    heads = dict(world.heads())
    assert heads.pop("x-echo-decision-id")
    assert heads == {
        "x-echo-policy": "test",
        "x-echo-arm": "none",
        "x-echo-examples": "0",
        "x-echo-answer": "stored",
        "x-echo-example-id": "e1",
        "x-echo-answer-age-s": "30",
    }


async def test_it_is_settled_as_nobody_s_answer() -> None:
    """No evidence, no example, no place that the conversation would stick to; it passes LiteLLM's cache by."""
    world = await proven(stickiness={})
    (picked,) = await world.pick()

    changed = world.desk.equip(attempt_on(picked))
    world.desk.note_answer(*event(STORED))
    (record,) = (await world.records()).values()

    assert changed is not None
    assert changed["cache"] == {"no-cache": True, "no-store": True}
    assert changed["messages"] == kwargs_of()["messages"]
    assert (record.served_by, record.is_acted, record.evidence, record.admitted_id) == (STORED, False, (), "")
    assert world.store.turns == {}
    assert world.store.counts[(f"key:{HASH}", "answered_from_store")] == 1
    assert world.in_flight() == 0


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"mode": "shadow"}, {}),
        ({"answers": None}, {}),
        ({}, {"headers": {"X-Echo-No-Answer": "true"}}),
        ({}, {"temperature": 0.7}),
        ({}, {"api_base": "http://elsewhere"}),
    ],
)
async def test_else_a_model_is_asked(changes: dict[str, Any], more: dict[str, Any]) -> None:
    """In shadow mode, without the line of policy, and where the caller wants something else."""
    world = await proven(**changes)

    picked = await world.ids(kwargs_of(**more))

    assert STORED not in picked
    assert "x-echo-answer" not in world.heads()


async def test_models_that_a_plugin_names_are_asked() -> None:
    """LiteLLM would refuse whatever else comes from the router."""
    world, kwargs = await proven(), kwargs_of()
    kwargs["metadata"]["_routing_plugin_candidate_models"] = ["large"]

    assert await world.ids(kwargs) == ["id-large"]


async def test_when_it_cannot_be_given_a_model_is_asked() -> None:
    """A retry draws an arm, which is busy then, and learns."""
    world = await proven()
    (picked,) = await world.pick()
    world.desk.equip(attempt_on(picked))
    world.desk.note_attempt_failure(attempt_on(picked), _Away())

    again = await world.ids()
    heads, busy = dict(world.heads()), world.in_flight()
    world.fly()
    (record,) = (await world.records()).values()

    assert (again, busy) == (["id-large"], 1)
    assert (heads["x-echo-arm"], "x-echo-answer" in heads) == ("large+0", False)
    assert [one.key.arm for one in record.evidence] == ["large+0"]
    assert record.served_by == "id-large"


async def test_a_second_request_with_its_id_does_not_take_the_answer_away() -> None:
    """They cannot be told apart; the first one's answer is on its way already."""
    world = await proven()
    (picked,) = await world.pick()
    other = kwargs_of()
    other["messages"] = [{"role": "user", "content": "Something else?"}]
    await world.pick(other)

    (item,) = litellm.custom_provider_map
    handler: Any = item["custom_handler"]
    answer = await handler.acompletion(
        model="echo_stored/answer",
        messages=kwargs_of()["messages"],
        litellm_params={"model_info": picked["model_info"]},
        model_response=litellm.ModelResponse(),
    )

    assert answer.choices[0].message.content == "Paris."


# ------------------------------------------------------------------ the same request, at the same time


async def test_those_that_ask_the_same_share_one_answer() -> None:
    """Only the first one's arm is busy and learns; the others cost nothing."""
    world = World()
    first = await world.ids()
    others = [world.follow(f"f{i}") for i in range(3)]
    await turn()
    busy, waiting = world.in_flight(), [one.done() for one in others]

    world.fly()
    picked = await asyncio.gather(*others)
    for number in range(3):
        world.desk.equip(
            attempt_on({"litellm_params": {"model": "echo_stored/answer"}, "model_info": {"id": STORED}}, f"f{number}")
        )
        world.desk.note_answer(*event(STORED, call_id=f"f{number}"))
    records = (await world.records()).values()

    assert (first, picked) == (["id-large"], [[STORED]] * 3)
    assert (busy, waiting) == (1, [False] * 3)
    assert (world.heads("f0")["x-echo-answer"], "x-echo-example-id" in world.heads("f0")) == ("shared", False)
    assert sorted(one.served_by for one in records) == [STORED] * 3 + ["id-large"]
    assert world.store.counts[(f"key:{HASH}", "answered_jointly")] == 3
    assert world.in_flight() == 0


@pytest.mark.parametrize("kind", ["error", "cut", "left", "empty", "tool_calls"])
async def test_what_may_not_be_shared_is_asked_for_again(kind: str) -> None:
    """By the next one alone; the others follow that one."""
    world = World()
    await world.ids(kwargs_of(stream=kind == "left"))
    others = [world.follow(f"f{i}") for i in range(3)]
    await turn()

    if kind == "error":
        world.desk.note_failure(kwargs_of(), _Away())
    elif kind == "left":
        world.desk.note_stream_end(kwargs_of(), False)
    else:
        world.fly(reason={"cut": "length"}.get(kind, kind), text="" if kind == "empty" else "Par")
    await turn()
    done = [one.result() for one in others if one.done()]
    world.fly("f0")
    picked = [await one for one in others]

    assert done == [["id-large"]]
    assert picked == [["id-large"], [STORED], [STORED]]
    assert world.heads("f0")["x-echo-arm"] == "large+0"


def of_team(call_id: str, key: str, **more: Any) -> dict[str, Any]:
    made = kwargs_of(call_id, **more)
    made["metadata"] |= {"user_api_key_hash": key, "user_api_key_team_id": "red"}
    return made


async def answered_with_poison(reader: str) -> list[Any]:
    """What two keys of a team are given that ask the same as a third of it, whose prompt holds a poisoned example."""
    world = World(**TO_SMALL, scope="team")
    of_it = {"scope": "team:red", "partition": partition_of("", False), "vector": HashingEmbedder().vector(TEXT)}
    await world.store.add(example(**of_it, response="Poison.", writer=HASH, reader=reader))
    first, same = of_team("c1", HASH), of_team("c2", HASH)
    await world.pick(first)
    sent = world.desk.equip({**first, "model": "m-small", "model_info": SMALL["model_info"]})
    assert "Poison." in str(sent)
    waiting = [asyncio.create_task(world.ids(one)) for one in (of_team("c3", ANOTHER), same)]
    await turn()
    told, body = event("small", text="Poison.")
    world.desk.note_answer({**told, "litellm_params": {"metadata": first["metadata"]}}, body)

    return [await one for one in waiting]


async def test_an_answer_made_with_an_example_in_quarantine_reaches_its_reader_alone() -> None:
    """Else one could have others of the scope given what nobody but itself has confirmed, by asking first."""
    assert await answered_with_poison(reader=HASH) == [["id-large"], [STORED]]
    assert await answered_with_poison(reader="") == [[STORED], [STORED]]


def heard(text: str) -> dict[str, Any]:
    """What a deployment says, before guardrails."""
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


async def test_what_a_guardrail_puts_back_for_one_is_not_shared() -> None:
    """Callers' names are masked alike, so their requests are the same; each has its own put back. Others get the
    model's words, which their own guardrails change, and nothing is kept of what was changed."""
    world = World()
    await world.ids()
    follower = world.follow("f")
    await turn()

    world.desk.equip(attempt_on(LARGE))
    world.desk.note_words(attempt_on(LARGE), heard("Hello <NAME>."))
    world.desk.note_words(attempt_on(LARGE), heard("Hello Bob."))
    world.desk.note_answer(*event(text="Hello Bob."))
    (given,) = [await follower]
    (record,) = (await world.records()).values()

    assert given == [STORED]
    assert [*world.desk._stored._texts.values()] == ["Hello <NAME>."]
    assert record.admitted_id == ""


async def test_a_retry_s_words_are_the_last_deployment_s() -> None:
    """Those of one that failed are nobody's."""
    world = World()
    await world.ids()
    follower = world.follow("f")
    await turn()
    for text in ("Withheld.", "Paris."):
        world.desk.equip(attempt_on(LARGE))
        world.desk.note_words(attempt_on(LARGE), heard(text))
        if text == "Withheld.":
            world.desk.note_attempt_failure(attempt_on(LARGE), _Away())
            await world.ids()
    world.desk.note_answer(*event())
    given = await follower
    records = (await world.records()).values()

    assert given == [STORED]
    assert [*world.desk._stored._texts.values()] == ["Paris."]
    assert [one.admitted_id != "" for one in records] == [True]


async def test_a_stream_that_may_be_changed_leads_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is reported of it may be what was put back for its caller; others ask themselves."""
    monkeypatch.setattr(litellm, "callbacks", [CustomGuardrail()])
    streamed, whole = World(), World()
    await streamed.ids(kwargs_of(stream=True))
    await whole.ids()
    follower = whole.follow("f")
    world_ids = await streamed.ids(kwargs_of("f", stream=True))
    await turn()

    assert world_ids == ["id-large"]
    assert not follower.done()
    follower.cancel()


@pytest.mark.parametrize("changes", [{"name": "Bob"}, {"prefix": True}])
async def test_names_keep_requests_apart(changes: dict[str, Any]) -> None:
    """Whatever stands beside role and words may shape the answer."""
    world = World()
    await world.ids()
    named = kwargs_of("f")
    named["messages"] = [{**named["messages"][0], **changes}]

    assert await world.ids(named) == ["id-large"]


async def test_tags_keep_requests_apart() -> None:
    """A key that only some deployments may answer is not given another's answer, be it stored or shared."""
    world, stored = World(), await proven()
    await world.ids()
    tagged = kwargs_of("f")
    tagged["metadata"]["tags"] = ["eu"]

    assert await world.ids(tagged) == ["id-large"]
    assert await stored.ids(tagged) == ["id-large"]


async def test_a_stream_is_shared_once_it_was_read_to_its_end() -> None:
    """Until then it may still be left."""
    world = World()
    await world.ids(kwargs_of(stream=True))
    follower = world.follow("f")
    world.desk.equip(attempt_on(LARGE))
    world.desk.note_answer(*event())
    await turn()
    is_early = follower.done()
    world.desk.note_stream_end(kwargs_of(), True)

    assert (is_early, await follower) == (False, [STORED])


async def test_a_follower_that_leaves_is_counted() -> None:
    """Nothing of it stays behind."""
    world = World()
    await world.ids()
    follower = world.follow("f")
    await turn()
    follower.cancel()
    await turn()
    world.fly()

    assert follower.cancelled()
    assert world.counted()["unsettled"] == 1
    assert world.in_flight() == 0


async def test_a_flight_that_is_lost_lets_its_followers_go() -> None:
    """When it is too old and another takes off."""
    world = World()
    await world.ids()
    follower = world.follow("f")
    await turn()
    world.clock.time += 10_000

    other = kwargs_of("other", temperature=1)
    await world.ids(other)

    assert await follower == ["id-large"]


async def test_a_deadline_ends_the_waiting() -> None:
    """The caller has no time left: it goes alone."""
    world = World()
    await world.ids()

    assert await world.ids(kwargs_of("f", headers={"x-echo-deadline-ms": "1"})) == ["id-large"]


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"answers": {"single_flight": "off"}}, {}),
        ({"answers": {}}, {}),
        ({}, {"headers": {"x-echo-no-store": "1"}}),
        ({}, {"headers": {"x-echo-no-answer": "1"}}),
        ({}, {"headers": {"x-echo-preference": "0.9"}}),
        ({}, {"temperature": 0.5}),
    ],
)
async def test_some_do_not_wait(changes: dict[str, Any], more: dict[str, Any]) -> None:
    """Where the policy says so, and where answers may differ or shall be kept apart."""
    world = World(**changes)
    await world.ids()

    assert await world.ids(kwargs_of("f", **more)) == ["id-large"]
