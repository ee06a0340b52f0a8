"""Guardrails that change answers for their callers, over HTTP: what they put back for one is nobody else's."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import greedy_policy
from tests.e2e.proxy import ALWAYS_LARGE, Proxy, Upstream, config_for, wait_for

KEY = "sk-tenant-one"
POLICY = greedy_policy(scope="team", answers={}) | {"bandit": ALWAYS_LARGE}
GUARDRAIL = '''
"""Puts the caller's name where a model says <NAME>, in place, as guardrails do that mask names in requests."""
from litellm.integrations.custom_guardrail import CustomGuardrail

class Names(CustomGuardrail):
    async def async_post_call_success_hook(self, data, user_api_key_dict, response):
        for choice in response.choices:
            choice.message.content = choice.message.content.replace("<NAME>", data["user"])
        return response
'''


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Proxy]:
    """One worker with such a guardrail for every call."""
    params = {"guardrail": "names.Names", "mode": "post_call", "default_on": True}
    config = config_for(upstream) | {"guardrails": [{"guardrail_name": "names", "litellm_params": params}]}
    process = Proxy(tmp_path, config, {"test": POLICY})
    (tmp_path / "names.py").write_text(GUARDRAIL)
    process.start()
    yield process
    process.stop()


async def test_those_that_share_an_answer_are_each_called_by_their_own_name(proxy: Proxy, upstream: Upstream) -> None:
    """The guardrail has masked them alike, so one call answers all; and nothing is kept of what it has changed."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=proxy.url, headers=headers, timeout=60, trust_env=False) as client:

        async def ask(user: str, text: str = "Who is <NAME>? [slow]") -> httpx.Response:
            body = {"model": "auto", "messages": [{"role": "user", "content": text}], "temperature": 0, "user": user}
            return await client.post("/v1/chat/completions", json=body)

        async def settled(response: httpx.Response) -> dict[str, object]:
            path = f"/echo/decisions/{response.headers['x-echo-decision-id']}"
            for _ in range(1000):
                if (found := await client.get(path)).status_code == 200:
                    return dict(found.json())
            raise AssertionError("expected the decision to be settled, it is not")

        upstream.take_asked()
        first = asyncio.create_task(ask("Bob"))
        asked = httpx.URL(f"{upstream.url}/asked")
        await asyncio.to_thread(wait_for, lambda: httpx.get(asked, trust_env=False).json(), 60, "a leader")
        others = await asyncio.gather(ask("Alice"), ask("Carol"))
        answers = [await first, *others]
        kept = [(await settled(one))["admitted_id"] for one in (answers[0], await ask("Bob", "Who was the first?"))]

    words = [one.json()["choices"][0]["message"]["content"] for one in answers]
    assert words == [f"large: Who is {name}? [slow]" for name in ("Bob", "Alice", "Carol")]
    assert [one.headers.get("x-echo-answer") for one in answers] == [None, "shared", "shared"]
    assert [bool(one) for one in kept] == [False, True]
