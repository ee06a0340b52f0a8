"""Calls of our own by LiteLLM's real router, with Echo's hooks in it and a scripted upstream behind it."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import litellm
import pytest
import uvicorn
from litellm import Router
from litellm.integrations.custom_logger import CustomLogger

from echo_proxy.beside import Beside
from echo_proxy.clock import SystemClock
from echo_proxy.errors import AskError
from echo_proxy.litellm.beside import RouterModels, ours
from echo_proxy.online.sample import Ask, Heard, Reply, judge_call, shadow_call
from echo_proxy.telemetry.counts import Counts
from echo_proxy.types import Message, Prompt
from tests.builders import GOOD, SMALL, candidate, decision, outcome, plan, policy, selection, served
from tests.upstream import ScriptedUpstream

pytestmark = pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")  # LiteLLM's own types
ARMS = ("small+0", "small+2", "large+0")


class Hook(CustomLogger):
    """What Echo does in the filter hook: calls of its own are left alone, others are planned for."""

    def __init__(self) -> None:
        super().__init__()
        self.planned: list[str] = []

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        chosen = ours(model, healthy_deployments)
        if chosen is None:
            self.planned.append(model)
            return healthy_deployments
        return list(chosen)


class World:
    """A router over two arms, a judge and a stranger, and what its models were asked."""

    def __init__(self, upstream: ScriptedUpstream, url: str) -> None:
        self.upstream = upstream
        self.hook = Hook()
        groups = (("auto", "small", 1e-7), ("auto", "large", 1e-5), ("judge", "judge", 1e-5), ("stranger", "s", 1e-5))
        self.router = Router(
            model_list=[self._deployment(url, *one) for one in groups],
            num_retries=2,
            disable_cooldowns=True,
            default_fallbacks=["stranger"],
            fallbacks=[{"judge": ["stranger"]}, {"auto": ["stranger"]}],
            model_group_alias={"arbiter": "judge"},
        )
        self.models = RouterModels(lambda: self.router, SystemClock())

    @staticmethod
    def _deployment(url: str, group: str, model: str, price: float) -> dict[str, Any]:
        return {
            "model_name": group,
            "litellm_params": {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "none"},
            "model_info": {"id": model, "input_cost_per_token": price, "output_cost_per_token": price},
        }

    async def ask(self, group: str = "auto", deployment: str = "", text: str = "Hi", **more: Any) -> Reply:
        return await self.models.ask(Ask(group, deployment, (Message("user", text),), Prompt(), **more))

    def models_asked(self) -> list[str]:
        return [str(body["model"]) for body in self.upstream.asked]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    upstream = ScriptedUpstream()
    server = uvicorn.Server(uvicorn.Config(upstream.app, host="127.0.0.1", port=0, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]
    made = World(upstream, f"http://127.0.0.1:{port}")
    monkeypatch.setattr(litellm, "callbacks", [made.hook])
    yield made
    server.should_exit = True
    await task


@pytest.mark.parametrize("name", ["large", "openai/large"])
async def test_the_wanted_deployment_answers(world: World, name: str) -> None:
    """By id or by model, with tokens, cost and time as LiteLLM reports them."""
    made = await world.ask(deployment=name)

    assert (made.text, made.deployment_id, made.finish_reason) == ("large: Hi", "large", "stop")
    assert (made.prompt_tokens, made.completion_tokens) == (1, 2)
    assert made.cost_usd == pytest.approx(3e-5)
    assert made.latency_s > 0


async def test_the_hooks_leave_our_own_calls_alone(world: World) -> None:
    """No client can say so of its own: the mark is no part of the request, and ends with the call."""
    await world.ask()
    forged = {"metadata": {"echo": "beside"}, "messages": [{"role": "user", "content": "Hi"}]}
    await world.router.acompletion(model="auto", **forged)

    assert world.hook.planned == ["auto"]
    assert ours("auto", []) is None


async def test_concurrent_calls_of_clients_are_not_marked(world: World) -> None:
    """Each task has its own."""
    mine = [world.ask(deployment="large", text="mine") for _ in range(5)]
    theirs = [world.router.acompletion(model="auto", messages=[{"role": "user", "content": "t"}]) for _ in range(5)]
    made = await asyncio.gather(*mine, *theirs)

    assert {one.deployment_id for one in made[:5]} == {"large"}
    assert world.hook.planned == ["auto"] * 5


@pytest.mark.parametrize(
    ("group", "deployment", "text"),
    [
        ("judge", "", "Hi [500]"),
        ("auto", "small", "Hi [500]"),
        ("auto", "gone", "Hi"),
        ("unknown", "", "Hi"),
    ],
)
async def test_nothing_leaves_to_another_group(world: World, group: str, deployment: str, text: str) -> None:
    """Neither by fallbacks nor by default fallbacks nor by retries: the call fails."""
    with pytest.raises(AskError):
        await world.ask(group, deployment, text)

    assert "s" not in world.models_asked()
    assert len(world.models_asked()) <= 1


async def test_an_alias_is_a_name_of_its_group(world: World) -> None:
    """The operator's config says so."""
    assert (await world.ask("arbiter")).text == "judge: Hi"


async def test_before_the_config_is_read_nobody_can_be_asked() -> None:
    """LiteLLM makes its router after Echo has started."""
    with pytest.raises(AskError, match="no router yet"):
        await RouterModels(lambda: None, SystemClock()).ask(Ask("auto", "", (Message("user", "Hi"),), Prompt()))


async def test_what_is_sent(world: World) -> None:
    """Examples before the question, JSON where the caller wanted it."""
    turns = (Message("user", "Q"), Message("assistant", "A"))
    prompt = Prompt(turns=turns, system_notice="Data.", example_ids=("e1",))
    await world.models.ask(Ask("auto", "small", (Message("user", "Hi"),), prompt, 99, True, 0.0))
    (body,) = world.upstream.asked

    assert [one["content"] for one in body["messages"]] == ["Data.", "Q", "A", "Hi"]
    assert (body["max_tokens"], body["temperature"]) == (99, 0.0)
    assert body["response_format"] == {"type": "json_object"}


async def test_a_judge_and_a_second_arm_answer_for_real(world: World) -> None:
    """From the sample to what was heard; the scripted judge gives no verdict, and that is counted."""
    rules = policy(
        judge={"sampled": {"model_group": "judge", "reference_group": "auto", "rate": 1.0}}, shadow={"rate": 1.0}
    )
    made = plan(decision=decision(arms=ARMS), selection=selection(candidate(response="large: Paris", distance=0.0)))
    answered, heard, counts = outcome("small: Lyon", [served(SMALL)]), [], Counts()

    async def deliver(one: Heard) -> bool:
        heard.append(one)
        return True

    beside = Beside(world.models, deliver, counts, SystemClock())
    await beside.do(judge_call(made, answered, GOOD, rules))  # type: ignore[arg-type]
    await beside.do(shadow_call(made, answered, rules))  # type: ignore[arg-type]
    counted = {name: amount for (_, name), amount in counts.take().items()}

    assert world.models_asked() == ["judge", "large"]
    assert [one.evidence[0].key.arm for one in heard] == ["large+0"]
    assert counted["judge_no_verdict"] == 1
    assert counted["judge_cost_usd"] > 0
    assert counted["shadow_answered"] == 1
    assert world.hook.planned == []


# ------------------------------------------------------------------ odd replies


class _Odd:
    """A router whose models answer with whatever the test says."""

    model_group_alias = None
    model_names = ("auto",)

    def __init__(self, message: Any, cost_usd: Any = 0.0, error: Exception | None = None) -> None:
        choice = SimpleNamespace(message=message, finish_reason="stop")
        self.response = SimpleNamespace(choices=[choice], _hidden_params={"response_cost": cost_usd})
        self.error = error

    async def acompletion(self, **kwargs: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self.response

    async def ask(self) -> Reply:
        return await RouterModels(lambda: self, SystemClock()).ask(Ask("auto", "", (Message("user", "Hi"),), Prompt()))


SAID = SimpleNamespace(content="Paris.")


@pytest.mark.parametrize(
    "router",
    [
        _Odd(None),
        _Odd(SimpleNamespace(content=7)),
        _Odd(SimpleNamespace(content=[{"type": "image_url", "image_url": "x"}])),
        _Odd(SAID, "n/a"),
        _Odd(SAID, float("nan")),
        _Odd(SAID, -1.0),
    ],
)
async def test_an_odd_reply_is_no_answer(router: _Odd) -> None:
    """It is an error like any other, so whoever asked goes on."""
    with pytest.raises(AskError):
        await router.ask()


async def test_an_answer_in_parts_is_read() -> None:
    """Some providers answer so."""
    reply = await _Odd(
        SimpleNamespace(content=[{"type": "text", "text": "Par"}, {"type": "text", "text": "is."}])
    ).ask()

    assert reply.text == "Par\nis."


async def test_a_provider_s_words_are_not_told() -> None:
    """They may repeat the prompt, and the message is logged."""
    with pytest.raises(AskError, match=r"^auto: RuntimeError$"):
        await _Odd(SAID, error=RuntimeError("cannot answer 'my secret'")).ask()
