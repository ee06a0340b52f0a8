"""How does the demo talk to the proxy? With the real OpenAI client, and plain HTTP for feedback and explanations."""

import time
from types import TracebackType
from typing import Any, Self

import httpx
import openai

from echo_proxy.demo.phases import Answer, Phase
from echo_proxy.demo.proxy import Connection, DemoFailed
from echo_proxy.demo.traffic import Ask
from echo_proxy.demo.world import correct

_TIMEOUT_S = 60.0
_MAX_TOKENS = 64
"""The longest right answer of the stream has about 30."""


class DemoClient:
    """A caller who knows the truth and says so."""

    def __init__(self, connection: Connection) -> None:
        # A proxy variable of the shell must not send loopback calls elsewhere.
        self._http = httpx.AsyncClient(
            base_url=connection.url, headers=connection.headers, timeout=_TIMEOUT_S, trust_env=False
        )
        self._openai = openai.AsyncOpenAI(
            base_url=f"{connection.url}/v1",
            api_key=connection.key,
            max_retries=0,  # a retry would hide an error and lengthen the latency that is measured
            timeout=_TIMEOUT_S,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._openai.close()
        await self._http.aclose()

    async def ask(self, phase: Phase, index: int, ask: Ask) -> Answer:
        """Send a request, judge the answer, and give feedback where Echo decided."""
        started_s = time.perf_counter()
        try:
            raw = await self._openai.chat.completions.with_raw_response.create(
                model=phase.model_group,
                messages=[{"role": "user", "content": ask.item.question}],
                temperature=0.0,
                max_tokens=_MAX_TOKENS,
            )
        except openai.OpenAIError as error:
            latency_s = time.perf_counter() - started_s
            return Answer(phase, index, ask, "", 0.0, latency_s, error=type(error).__name__)
        latency_s = time.perf_counter() - started_s
        completion = raw.parse()
        text = completion.choices[0].message.content or ""
        quality = correct(ask.item, text)
        decision_id = raw.headers.get("x-echo-decision-id", "")
        is_taken = await self._give_feedback(decision_id, quality) if decision_id else True
        return Answer(
            phase,
            index,
            ask,
            text,
            quality,
            latency_s,
            deployment=raw.headers.get("x-litellm-model-id", ""),
            n_examples=int(raw.headers.get("x-echo-examples", 0)),
            prompt_tokens=completion.usage.prompt_tokens if completion.usage else 0,
            completion_tokens=completion.usage.completion_tokens if completion.usage else 0,
            cost_usd=float(raw.headers.get("x-litellm-response-cost", 0.0)),
            decision_id=decision_id,
            is_feedback_lost=not is_taken,
        )

    async def decision(self, decision_id: str) -> dict[str, Any]:
        """The explanation of a decision. Raises DemoFailed."""
        return await self._get(f"/echo/decisions/{decision_id}")

    async def example(self, example_id: str) -> dict[str, Any]:
        """A stored example. Raises DemoFailed."""
        return await self._get(f"/echo/examples/{example_id}")

    async def stats(self) -> dict[str, Any]:
        """Counts and learned averages by policy. Raises DemoFailed."""
        return await self._get("/echo/stats")

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            reply = await self._http.get(path)
            reply.raise_for_status()
        except httpx.HTTPError as error:
            raise DemoFailed(f"GET {path}: expected an answer of the proxy, got {error!r}") from error
        found: dict[str, Any] = reply.json()
        return found

    async def _give_feedback(self, decision_id: str, score: float) -> bool:
        try:
            reply = await self._http.post("/echo/feedback", json={"decision_id": decision_id, "score": score})
        except httpx.HTTPError:
            return False
        return reply.is_success
