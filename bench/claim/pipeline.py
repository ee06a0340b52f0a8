"""How does a request go through Echo without LiteLLM? plan(), the model in its own process, settle()."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.claim.front import body
from bench.claim.load import Reply
from bench.claim.ways import SIZES, Models, size_of
from echo_proxy.app import App, build_app
from echo_proxy.demo.setup import PRICES
from echo_proxy.errors import EchoProxyError, LocalModelError
from echo_proxy.lane import Lane
from echo_proxy.local.client import Call as ModelCall
from echo_proxy.local.client import LocalClient
from echo_proxy.local.fleet import Fleet
from echo_proxy.local.options import parse_model
from echo_proxy.local.supervisor import Supervisor
from echo_proxy.online.measure import Answer
from echo_proxy.settings import Settings
from echo_proxy.types import Attempt, Call, Caller, Feedback, Message, PassThrough, Plan, Prompt

_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
_BENCH = Caller(key="bench")
_FEEDBACK_TRIES = 20
_FEEDBACK_PAUSE_S = 0.05
"""An outcome is written in the background; feedback that comes before is told that the decision is unknown."""
_NO_PROMPT = Prompt()


@asynccontextmanager
async def running_pipeline(folder: Path, policies: Path, models: Models) -> AsyncIterator["PipelineFront"]:
    """Echo and both models, loaded; gone afterwards. The store is the embedded one in the folder."""
    fleet = Fleet(folder)
    supervisors = {size: fleet.ensure(parse_model(size, models.llama_cpp(size))) for size in SIZES}
    app = build_app(Settings(state_dir=folder, policy=str(policies), store_timeout_s=5.0))
    await app.start()
    front = PipelineFront(app, supervisors)
    try:
        yield front
    finally:
        await front.close()
        await app.stop()
        await asyncio.to_thread(fleet.shutdown)


class PipelineFront:
    """Lanes of this process, and models of a fleet."""

    def __init__(self, app: App, supervisors: Mapping[str, Supervisor]) -> None:
        self._app = app
        self._supervisors = supervisors
        self._client = LocalClient()

    async def ask(self, group: str, question: str) -> Reply:
        """See Front."""
        lane = self._app.lane_for(group)
        try:
            if lane is None:
                return _reply(group, group, await self._complete(group, question))
            return await self._by_plan(lane, group, question)
        except EchoProxyError as error:
            return Reply(group=group, error=type(error).__name__)

    async def _by_plan(self, lane: Lane, group: str, question: str) -> Reply:
        call = Call(uuid.uuid4().hex, group, "chat", (Message("user", question),), _BENCH)
        try:
            plan = await lane.plan(call, [f"{group}-{size}" for size in SIZES])
        except TimeoutError:
            plan = lane.bypass("deadline")
        if isinstance(plan, PassThrough):
            size = size_of(lane.policy.default_deployment or "large")
            return _reply(group, size, await self._complete(size, question))
        return await self._by_model(lane, plan, question)

    async def _by_model(self, lane: Lane, plan: Plan, question: str) -> Reply:
        deployment, started_at = plan.decision.arm.deployment, time.time()
        try:
            answer = await self._complete(size_of(deployment), question, plan.prompt)
        except (asyncio.CancelledError, LocalModelError):
            lane.give_up(plan)
            raise
        reply = _reply(plan.request.model_group, size_of(deployment), answer, plan)
        told = _told(deployment, reply, answer["choices"][0]["finish_reason"], started_at)
        lane.settle(plan, told, [Attempt(deployment, deployment, plan.decision)])
        return reply

    async def _complete(self, size: str, question: str, prompt: Prompt = _NO_PROMPT) -> dict[str, Any]:
        given = body(question)
        shown = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
        content = json.dumps({**given, "messages": [*shown, *given["messages"]]}).encode()
        return await self._client.ask(ModelCall(self._supervisors[size], content, _TIMEOUT))

    async def tell(self, reply: Reply, quality: float) -> None:
        """See Front."""
        lane = self._app.lane_for(reply.group)
        for _ in range(_FEEDBACK_TRIES if lane and reply.decision_id else 0):
            assert lane is not None
            if await lane.take_feedback(reply.decision_id, Feedback(quality, given_at=time.time())) is not None:
                return
            await asyncio.sleep(_FEEDBACK_PAUSE_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _reply(group: str, size: str, answer: Mapping[str, Any], plan: Plan | None = None) -> Reply:
    return Reply(
        text=str(answer["choices"][0]["message"]["content"] or ""),
        group=group,
        model=size,
        n_examples=plan.prompt.n_examples if plan else 0,
        prompt_tokens=int(answer["usage"]["prompt_tokens"]),
        completion_tokens=int(answer["usage"]["completion_tokens"]),
        decision_id=plan.request.decision_id if plan else "",
    )


def _told(deployment: str, reply: Reply, reason: str, started_at: float) -> Answer:
    """What LiteLLM would report of the call."""
    price = PRICES[reply.model]
    return Answer(
        deployment_id=deployment,
        text=reply.text,
        finish_reason=reason,
        was_read_to_end=True,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cost_usd=price.input_usd * reply.prompt_tokens + price.output_usd * reply.completion_tokens,
        started_at=started_at,
        first_token_at=None,
        ended_at=time.time(),
    )
