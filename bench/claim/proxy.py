"""How does a request go through LiteLLM's real proxy, with Echo inside and over HTTP?"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.claim.front import body
from bench.claim.load import Reply
from bench.claim.ways import Models, litellm_config, size_of
from tests.e2e.proxy import MASTER_KEY, Proxy

_TIMEOUT_S = 600.0
_NOT_YET = httpx.codes.NOT_FOUND
_FEEDBACK_TRIES = 20
_FEEDBACK_PAUSE_S = 0.05


@asynccontextmanager
async def running_proxy(
    folder: Path, policies: dict[str, dict[str, Any]], models: Models
) -> AsyncIterator["ProxyFront"]:
    """The proxy with both models, ready; gone afterwards. Policies are read again from <folder>/policies."""
    proxy = Proxy(folder, litellm_config(models), policies, {"ECHO_STORE_TIMEOUT_S": "5"})
    try:
        await asyncio.to_thread(proxy.start)
        front = ProxyFront(proxy)
        try:
            yield front
        finally:
            await front.close()
    finally:
        await asyncio.to_thread(proxy.stop)


class ProxyFront:
    """An HTTP client in this process; the proxy is another one."""

    def __init__(self, proxy: Proxy) -> None:
        self.pid = proxy.child.pid if proxy.child else 0
        self._http = httpx.AsyncClient(
            base_url=proxy.url,
            headers={"Authorization": f"Bearer {MASTER_KEY}"},
            timeout=_TIMEOUT_S,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=1000),
            trust_env=False,
        )

    async def ask(self, group: str, question: str) -> Reply:
        """See Front."""
        try:
            got = await self._http.post("/v1/chat/completions", json={"model": group, **body(question)})
        except httpx.HTTPError as error:
            return Reply(group=group, error=type(error).__name__)
        if got.is_error:
            return Reply(group=group, error=f"HTTP {got.status_code}")
        answer = got.json()
        return Reply(
            text=str(answer["choices"][0]["message"]["content"] or ""),
            group=group,
            model=size_of(got.headers.get("x-litellm-model-id", "")),
            n_examples=int(got.headers.get("x-echo-examples", 0)),
            prompt_tokens=int(answer["usage"]["prompt_tokens"]),
            completion_tokens=int(answer["usage"]["completion_tokens"]),
            decision_id=got.headers.get("x-echo-decision-id", ""),
        )

    async def tell(self, reply: Reply, quality: float) -> None:
        """See Front. An outcome is written in the background: a decision may be unknown for a moment."""
        given = {"decision_id": reply.decision_id, "score": quality}
        for _ in range(_FEEDBACK_TRIES if reply.decision_id else 0):
            try:
                got = await self._http.post("/echo/feedback", json=given)
            except httpx.HTTPError:
                return
            if got.status_code != _NOT_YET:
                return
            await asyncio.sleep(_FEEDBACK_PAUSE_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
