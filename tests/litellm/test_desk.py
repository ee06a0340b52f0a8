"""What Echo does at each of LiteLLM's hooks, over fakes."""

import asyncio
from typing import Any

import httpx
import pytest

from echo_proxy.app import App
from echo_proxy.errors import AskError, EmbedderError
from echo_proxy.lane import Lane
from echo_proxy.litellm.beside import RouterModels
from echo_proxy.litellm.desk import Desk
from echo_proxy.online.receive import partition_of
from echo_proxy.online.sample import Ask
from echo_proxy.online.service import scope_hash
from echo_proxy.settings import Settings
from echo_proxy.types import DecisionRecord, Prompt, Service
from tests.builders import NOW, example, lane, policy
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

HASH = "0123456789abcdef" * 4
TEXT = "What is the capital of France?"
ONLY = {"floor": 1e-9, "kind": "fixed"}
TO_SMALL = {"bandit": {**ONLY, "probabilities": {"small+2": 1.0}}}
TO_LARGE = {"bandit": {**ONLY, "probabilities": {"large+0": 1.0}}}


def deployment(deployment_id: str, model: str) -> dict[str, Any]:
    return {"model_name": "auto", "litellm_params": {"model": model}, "model_info": {"id": deployment_id}}


SMALL, LARGE, OTHER = deployment("small", "m-small"), deployment("id-large", "large"), deployment("other", "m-other")
HEALTHY = [SMALL, LARGE, OTHER]


def kwargs_of(call_id: str = "c1", text: str = TEXT, **more: Any) -> dict[str, Any]:
    metadata = {"user_api_key_request_route": "/v1/chat/completions", "user_api_key_hash": HASH}
    messages = [{"role": "user", "content": text}]
    return {"litellm_call_id": call_id, "metadata": metadata, "messages": messages, **more}


def attempt_on(one: dict[str, Any], **more: Any) -> dict[str, Any]:
    return kwargs_of(model=one["litellm_params"]["model"], model_info=one["model_info"], **more)


def event(text: str = "Paris.", call_id: str = "c1") -> tuple[dict[str, Any], dict[str, Any]]:
    report = {"model_id": "id-large", "completion_tokens": 3, "startTime": NOW, "endTime": NOW + 1}
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    told = {"litellm_params": {"metadata": kwargs_of()["metadata"]}, "standard_logging_object": report}
    return {"litellm_call_id": call_id, **told}, body


class _Away(Exception):
    status_code = 503


class World:
    """A desk with one lane over fakes."""

    def __init__(self, embedder: Any = None, **changes: Any) -> None:
        self.store = MemoryStore()
        more = {"embedder": embedder} if embedder else {}
        self.lane: Lane = lane(policy(**changes), self.store, **more)
        self.desk = Desk(App(Settings(policy="nowhere"), [self.lane], HashingEmbedder()), FrozenClock(NOW))

    async def pick(self, kwargs: dict[str, Any] | None = None, healthy: Any = None, group: str = "auto") -> list[str]:
        kwargs = kwargs or kwargs_of()
        picked = await self.desk.pick(group, HEALTHY if healthy is None else healthy, kwargs["messages"], kwargs)
        return [one["model_info"]["id"] for one in picked]

    async def records(self) -> list[DecisionRecord]:
        await self.lane.write()
        return list(self.store.records.values())

    def counted(self, name: str) -> float:
        return sum(amount for (_, one), amount in self.lane.counts.take().items() if one == name)


async def taught(**changes: Any) -> World:
    """One whose store holds an example of the teacher for TEXT."""
    world = World(**(TO_SMALL | changes))
    vector = HashingEmbedder().vector(TEXT)
    await world.store.add(example(scope=f"key:{HASH}", partition=partition_of("", False), vector=vector))
    return world


async def test_the_drawn_arm_s_deployment_is_picked() -> None:
    """By id or by model; headers tell which and why."""
    to_large, to_small = World(**TO_LARGE), await taught()

    assert await to_large.pick() == ["id-large"]
    assert await to_small.pick() == ["small"]
    assert to_large.desk.headers(kwargs_of()) | {"x-echo-decision-id": ""} == {
        "x-echo-decision-id": "",
        "x-echo-policy": "test",
        "x-echo-arm": "large+0",
        "x-echo-examples": "0",
    }
    assert to_small.desk.headers(kwargs_of())["x-echo-examples"] == "1"


async def test_another_group_is_left_alone() -> None:
    """Nothing is counted, nothing told."""
    world = World()

    assert await world.pick(group="elsewhere") == ["small", "id-large", "other"]
    assert world.desk.headers(kwargs_of()) == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["small", "id-large", "other"]),
        ({"default_deployment": "large"}, ["id-large"]),
        ({"default_deployment": "gone"}, ["small", "id-large", "other"]),
        ({"default_deployment": "large", "mode": "shadow"}, ["small", "id-large", "other"]),
    ],
)
async def test_what_is_passed_through_goes_to_the_default(changes: dict[str, Any], expected: list[str]) -> None:
    """Or LiteLLM chooses, as always in shadow mode."""
    world = World(**changes)

    assert await world.pick(kwargs_of(tools=[{"type": "function"}])) == expected
    assert world.desk.headers(kwargs_of()) == {"x-echo-policy": "test", "x-echo-pass": "tools"}
    assert world.counted("pass:tools") == 1


class _Stuck(HashingEmbedder):
    async def embed(self, texts: Any) -> Any:
        await asyncio.Event().wait()


class _Broken(HashingEmbedder):
    async def embed(self, texts: Any) -> Any:
        raise EmbedderError("away")


@pytest.mark.parametrize(("embedder", "reason"), [(_Stuck(), "deadline"), (_Broken(), "embedder")])
async def test_a_failed_plan_is_bypassed(embedder: Any, reason: str) -> None:
    """In time, counted, on the default deployment."""
    world = World(embedder, default_deployment="large", deadline_s=0.001)

    assert await world.pick() == ["id-large"]
    assert world.desk.headers(kwargs_of())["x-echo-pass"] == reason
    assert world.counted(f"bypass:{reason}") == 1


async def test_examples_are_prepended_once_per_attempt() -> None:
    """Bridged endpoints run the hook twice; the second run must not see them again."""
    world = await taught()
    await world.pick()

    first, second = world.desk.equip(attempt_on(SMALL)), world.desk.equip(attempt_on(SMALL))

    assert first is not None
    assert [one["content"] for one in first["messages"][1:]] == [TEXT, "Paris.", TEXT]
    assert second is None


async def test_another_deployment_than_the_drawn_gets_no_examples() -> None:
    """LiteLLM went its own way: the answer is not the arm's."""
    world = await taught()
    await world.pick()

    assert world.desk.equip(attempt_on(OTHER)) is None
    world.desk.note_answer(*event())
    (record,) = await world.records()
    assert (record.n_examples, record.evidence) == (0, ())


async def test_an_unknown_call_is_left_alone() -> None:
    """At every hook."""
    world = World()
    world.desk.note_attempt_failure(kwargs_of(), _Away())
    world.desk.note_failure(kwargs_of(), _Away())
    world.desk.note_stream_end(kwargs_of(), True)
    world.desk.note_answer(*event())

    assert world.desk.equip(attempt_on(SMALL)) is None
    assert await world.records() == []


async def test_an_answer_is_settled_once() -> None:
    """LiteLLM reports bridged calls twice."""
    world = World(**TO_LARGE)
    await world.pick()
    world.desk.equip(attempt_on(LARGE))

    world.desk.note_answer(*event())
    world.desk.note_answer(*event("Rome."))
    (record,) = await world.records()

    assert (record.arm, record.served_by, record.explanation["answer"]) == ("large+0", "id-large", "Paris.")
    assert list(world.store.examples) == [record.id] == [record.admitted_id]


@pytest.mark.parametrize("end_first", [True, False])
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_stream_is_settled_when_answer_and_end_are_known(end_first: bool, is_whole: bool) -> None:
    """In either order; one that the caller left is no example."""
    world = World(**TO_LARGE)
    await world.pick(kwargs_of(stream=True))
    world.desk.equip(attempt_on(LARGE))
    steps = [lambda: world.desk.note_stream_end(kwargs_of(), is_whole), lambda: world.desk.note_answer(*event())]

    steps[not end_first]()
    halfway = await world.records()
    steps[end_first]()
    (record,) = await world.records()

    assert halfway == []
    assert record.is_whole is is_whole
    assert bool(record.admitted_id) is is_whole


async def test_a_retry_draws_again_among_what_has_not_failed() -> None:
    """The failure is evidence against its arm; the retry's arm gets what the answer earned."""
    world = await taught()
    await world.pick()
    world.desk.equip(attempt_on(SMALL))
    world.desk.note_attempt_failure(attempt_on(SMALL), _Away())

    again = await world.pick()
    equipped = world.desk.equip(attempt_on(LARGE))
    world.desk.note_answer(*event())
    (record,) = await world.records()

    assert again == ["id-large"]
    assert equipped is None
    assert [(one.key.arm, one.is_served, one.weight) for one in record.evidence] == [
        ("small+2", False, 1.0),
        ("large+0", True, pytest.approx(0.05 + 0.95 * 0.1)),
    ]
    assert (record.n_examples, record.example_ids) == (0, ())
    assert world.desk.headers(kwargs_of())["x-echo-arm"] == "large+0"


async def test_when_all_have_failed_all_may_be_tried_again() -> None:
    """An empty list would be an error to the caller."""
    world = await taught()
    await world.pick(healthy=[SMALL])
    world.desk.equip(attempt_on(SMALL))
    world.desk.note_attempt_failure(attempt_on(SMALL), _Away())

    assert await world.pick(healthy=[SMALL]) == ["small"]


async def test_a_fallback_to_another_group_is_litellm_s() -> None:
    """It is chosen and answered without us; the failed arm learns."""
    world = await taught()
    await world.pick()
    world.desk.equip(attempt_on(SMALL))
    world.desk.note_attempt_failure(attempt_on(SMALL), _Away())

    picked = await world.pick(group="fallback", healthy=[OTHER])
    equipped = world.desk.equip(attempt_on(OTHER))
    world.desk.note_answer(*event())
    (record,) = await world.records()

    assert (picked, equipped) == (["other"], None)
    assert [(one.key.arm, one.is_served) for one in record.evidence] == [("small+2", False)]
    assert (record.n_examples, record.example_ids) == (0, ())


async def test_the_caller_s_own_errors_are_no_evidence() -> None:
    """A bad request would fail anywhere."""
    error = _Away()
    error.status_code = 400
    world = World(**TO_LARGE)
    await world.pick()
    world.desk.equip(attempt_on(LARGE))
    world.desk.note_attempt_failure(attempt_on(LARGE), error)
    world.desk.note_failure(kwargs_of(), error)

    (record,) = await world.records()
    assert (record.evidence, record.explanation["outcome"]["error"]) == ((), "_Away")  # type: ignore[index,call-overload]


async def test_an_answer_that_a_guardrail_withheld_teaches_nothing_good() -> None:
    """The deployment answered, the caller got an error: no evidence as if it had served."""
    error = _Away()
    error.status_code = 400
    world = World(**TO_LARGE)
    await world.pick()
    world.desk.equip(attempt_on(LARGE))
    world.desk.note_failure(kwargs_of(), error)

    (record,) = await world.records()
    assert (record.evidence, record.admitted_id) == ((), "")


async def test_a_failed_call_is_settled_also_when_streamed() -> None:
    """With its error and the time it took."""
    world = World(**TO_LARGE)
    await world.pick(kwargs_of(stream=True))
    world.desk.equip(attempt_on(LARGE))
    world.desk.note_failure(kwargs_of(), _Away())

    (record,) = await world.records()
    assert (record.quality, record.reward, record.evidence[0].weight) == (0.0, 0.0, 1.0)


async def test_in_shadow_mode_litellm_chooses_and_the_teacher_s_answers_are_kept() -> None:
    """Decided and logged, not acted upon."""
    world = World(mode="shadow", **TO_SMALL)

    picked = await world.pick()
    equipped = world.desk.equip(attempt_on(LARGE))
    world.desk.note_answer(*event())
    (record,) = await world.records()

    assert (picked, equipped) == (["small", "id-large", "other"], None)
    assert (record.evidence, record.n_examples) == ((), 0)
    assert record.admitted_id == record.id


async def test_a_flight_that_never_lands_is_counted() -> None:
    """When it is too old and another takes off."""
    world = World(**TO_LARGE)
    clock = FrozenClock(NOW)
    world.desk = Desk(world.desk.app, clock)
    await world.pick(kwargs_of("lost"))
    clock.time += 10_000

    await world.pick(kwargs_of("next"))

    assert world.counted("unsettled") == 1


async def test_a_failure_of_ours_is_counted() -> None:
    """With its class; of an unknown group by any lane."""
    world = World()

    world.desk.bypass("auto", KeyError("x"))
    world.desk.bypass("", KeyError("x"))

    assert world.counted("bypass:error_KeyError") == 2


async def test_a_retry_keeps_its_decision_s_id() -> None:
    """The caller gets one id for its request."""
    world = await taught()
    await world.pick()
    before = world.desk.headers(kwargs_of())["x-echo-decision-id"]
    world.desk.equip(attempt_on(SMALL))
    world.desk.note_attempt_failure(replace_model(attempt_on(SMALL)), _Away())
    await world.pick()

    assert world.desk.headers(kwargs_of())["x-echo-decision-id"] == before


def replace_model(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs, "model": "rewritten-by-litellm"}


async def test_a_call_id_of_another_tenant_is_another_request() -> None:
    """Clients may set the id by header: another key with the same id gets no examples of the first."""
    world = await taught()
    await world.pick(kwargs_of())
    foreign = kwargs_of()
    foreign["metadata"] = {**foreign["metadata"], "user_api_key_hash": "fedcba9876543210" * 4}

    await world.pick(foreign)

    ours, theirs = world.desk.headers(kwargs_of()), world.desk.headers(foreign)
    assert ours["x-echo-examples"] == "1"
    assert theirs["x-echo-examples"] == "0"
    assert ours["x-echo-decision-id"] != theirs["x-echo-decision-id"]


async def test_one_key_s_reused_call_id_is_not_served_twice() -> None:
    """Two different requests with one id cannot be told apart in later hooks: neither gets examples."""
    world = await taught()
    await world.pick(kwargs_of())

    await world.pick(kwargs_of(text="What is the capital of Peru?"))

    assert world.desk.equip(attempt_on(SMALL)) is None
    assert world.counted("bypass:call_id_reused") == 1


async def test_a_call_without_an_id_passes_through() -> None:
    """Without one its hooks could not find each other."""
    world = await taught()

    await world.pick(kwargs_of(call_id=""))

    assert world.desk.equip(attempt_on(SMALL, call_id="")) is None
    assert world.counted("bypass:no_call_id") == 1


async def test_an_answer_from_litellm_s_cache_teaches_nobody() -> None:
    """Its text, cost and time may be another arm's: it is recorded, but neither kept nor credited."""
    world = World(**TO_LARGE)
    await world.pick()
    world.desk.equip(attempt_on(LARGE))
    kwargs, body = event()
    world.desk.note_answer({**kwargs, "cache_hit": True}, body)

    (record,) = await world.records()

    assert (record.evidence, record.admitted_id, record.is_acted) == ((), "", False)
    assert world.store.examples == {}


async def test_requests_that_cannot_be_told_apart_leave_no_load_behind() -> None:
    """Nobody will report the end of a flight that was dropped."""
    world = World(**TO_LARGE)
    await world.pick(kwargs_of(text="one"))
    await world.pick(kwargs_of(text="two"))

    assert [load.in_flight for load in world.lane.parts.knowledge.board.own(NOW).values()] == [0.0]
    assert world.counted("unsettled") == 1


# ------------------------------------------------------------------ what local engines are told


def asked_by(model: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What LiteLLM hands to a provider."""
    return {"litellm_call_id": "c1", "metadata": kwargs_of(**more)["metadata"], "model_info": model["model_info"]}


async def test_the_engine_is_told_of_the_attempt_s_request() -> None:
    """Its scope, rank and time, and what was retrieved; also the arm that takes no examples."""
    world = await taught(**TO_LARGE, priority={"default": 4}, deadline={"answer_s": 9.0})
    await world.pick()
    world.desk.equip(attempt_on(LARGE))

    assert world.desk.service(asked_by(LARGE)) == Service(scope_hash(f"key:{HASH}"), 4, 9.0, ("Paris.",))


async def test_examples_in_the_prompt_are_no_hints() -> None:
    """The engine finds them there."""
    world = await taught()
    await world.pick()
    world.desk.equip(attempt_on(SMALL))

    assert world.desk.service(asked_by(SMALL)) == Service(scope_hash(f"key:{HASH}"))


@pytest.mark.parametrize("changes", [{"mode": "shadow"}, {}])
async def test_what_litellm_chose_is_only_kept_apart(changes: dict[str, Any]) -> None:
    """In shadow mode, and where LiteLLM went its own way."""
    world = await taught(priority={"default": 4}, **changes)
    await world.pick()
    world.desk.equip(attempt_on(OTHER))

    assert world.desk.service(asked_by(OTHER)) == Service(scope_hash(f"key:{HASH}"))


async def test_a_call_that_is_passed_through_has_its_caller_s_scope() -> None:
    """Nobody else's prefixes; a call without a known caller is nobody's."""
    world = World()
    other = {"user_api_key_request_route": "/v1/chat/completions", "user_api_key_hash": "ff" * 32}

    assert world.desk.service({"litellm_call_id": "c9", "metadata": other}).scope == scope_hash("key:" + "ff" * 32)
    assert world.desk.service({}).scope == scope_hash("key:anonymous")


PASSED = {"user_api_key_request_route": "/v1/chat/completions", "user_api_key_hash": HASH, "user_api_key_team_id": "t"}


@pytest.mark.parametrize(
    ("group", "changes", "expected"),
    [
        ("auto", {}, Service(scope_hash("team:t"), -7)),
        ("auto", {"mode": "shadow"}, Service(scope_hash("team:t"))),
        ("elsewhere", {}, Service(scope_hash(f"key:{HASH}"))),
    ],
)
async def test_what_is_passed_through_queues_as_the_policy_s_own_calls(
    group: str, changes: dict[str, Any], expected: Service
) -> None:
    """Nobody gains rank or a second fair share by `stop`; the caller's header and the deadline do not count."""
    rules = {"default": -7, "allow_client": True}
    world = World(scope="team", priority=rules, deadline={"answer_s": 9.0}, **changes)
    metadata = {**PASSED, "headers": {"x-echo-priority": "high"}}
    await world.pick({**kwargs_of(stop=["."]), "metadata": metadata}, group=group)

    told = world.desk.service({"litellm_call_id": "c1", "metadata": {**metadata, "deployment_model_name": group}})

    assert told == expected


async def test_the_same_call_id_again_blames_nobody() -> None:
    """An attempt under way is not taken for failed because its caller sends a request with the same id."""
    world = await taught()
    for _ in range(2):
        await world.pick()
        world.desk.equip(attempt_on(SMALL))
    world.desk.note_answer(*event())
    (record,) = await world.records()

    attempts: Any = record.explanation["attempts"]
    assert [one["error"] for one in attempts] == [None, None]


async def test_another_tenant_s_call_id_opens_nothing() -> None:
    """A client may choose its call id: with another's it gets its own scope and none of the other's answers."""
    world = await taught(**TO_LARGE)
    await world.pick()
    world.desk.equip(attempt_on(LARGE))
    thief = {"user_api_key_request_route": "/v1/chat/completions", "user_api_key_hash": "ff" * 32}

    told = world.desk.service({"litellm_call_id": "c1", "metadata": thief})

    assert told == Service(scope_hash("key:" + "ff" * 32))


async def test_a_caller_s_rank_counts_where_it_is_allowed() -> None:
    """By header."""
    allowed, silent = (
        await taught(**TO_LARGE, priority={"allow_client": True}),
        await taught(**TO_LARGE),
    )
    ranks = []
    for world in (allowed, silent):
        kwargs = kwargs_of()
        kwargs["metadata"]["headers"] = {"x-echo-priority": "high"}
        await world.pick(kwargs)
        world.desk.equip(attempt_on(LARGE))
        ranks.append(world.desk.service(asked_by(LARGE)).priority)

    assert ranks == [10, 0]


async def test_calls_of_our_own_come_last() -> None:
    """Nobody waits for a judge."""
    world = World()
    told: list[Service] = []

    class Router:
        model_group_alias: dict[str, str] = {}  # noqa: RUF012 - as LiteLLM has it
        model_names = ("judge",)

        async def acompletion(self, **kwargs: Any) -> Any:
            told.append(world.desk.service({"litellm_call_id": "c1"}))
            raise OSError

    with pytest.raises(AskError):
        await RouterModels(Router, FrozenClock(NOW)).ask(Ask("judge", "", (), Prompt()))

    assert told == [Service(scope_hash("echo:beside"), -100)]


# ------------------------------------------------------------------ failures


class _Later(Exception):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status_code = status
        self.response = httpx.Response(status, headers={"retry-after": "7"})


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_reaches_the_caller_with_its_header(status: int) -> None:
    """LiteLLM would rename it; also for calls that Echo does not serve."""
    world = World(**TO_LARGE)
    await world.pick()
    world.desk.equip(attempt_on(LARGE))
    world.desk.note_failure(kwargs_of(), _Later(status))
    world.desk.note_failure(kwargs_of("c2"), _Later(status))
    world.desk.note_failure(kwargs_of("c3"), _Away())

    assert world.desk.headers(kwargs_of())["retry-after"] == "7"
    assert world.desk.headers(kwargs_of())["x-echo-arm"] == "large+0"
    assert world.desk.headers(kwargs_of("c2")) == {"retry-after": "7"}
    assert world.desk.headers(kwargs_of("c3")) == {}
