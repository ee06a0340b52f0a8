"""A proxy without models: it answers by script, and remembers what it was told."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from echo_proxy.demo.proxy import Connection
from echo_proxy.demo.setup import KEY_VARIABLE
from echo_proxy.demo.traffic import Ask, stream
from echo_proxy.demo.world import make_world

KEY = "sk-test"


@dataclass
class FakeProxy:
    """Large knows everything; small nothing; Echo lets small answer rightly with one example."""

    key: str = KEY
    """Master key that is asked for."""
    answers: dict[str, str] = field(default_factory=dict)
    """Right answer by question; anything else is answered with `hm`."""
    feedback: dict[str, float] = field(default_factory=dict)
    """Score by decision id."""
    broken_groups: frozenset[str] = frozenset()
    """Model groups that answer with status 500."""
    refuses_feedback: bool = False
    n_asked: dict[str, int] = field(default_factory=dict)
    """Chat completions by model group."""
    n_decisions: int = 0
    busiest: int = 0
    """Most chat completions under way at once."""
    _under_way: int = 0

    def knows(self, asks: list[Ask]) -> None:
        """Learn the right answers of a stream."""
        self.answers.update({ask.item.question: ask.item.answer for ask in asks})

    def app(self) -> Starlette:
        """The routes that the demo uses."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/echo/ready", self._ready),
                Route("/echo/feedback", self._take_feedback, methods=["POST"]),
                Route("/echo/decisions/{id}", self._decision),
                Route("/echo/examples/{id}", self._example),
                Route("/echo/stats", self._stats),
            ]
        )

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        group, question = body["model"], body["messages"][-1]["content"]
        self.n_asked[group] = self.n_asked.get(group, 0) + 1
        if request.headers["authorization"] != f"Bearer {self.key}" or group in self.broken_groups:
            return JSONResponse({"error": {"message": "broken", "type": "server_error"}}, status_code=500)
        self._under_way += 1
        self.busiest = max(self.busiest, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        text = "hm" if group == "small" else self.answers.get(question, "hm")
        return JSONResponse(_completion(text), headers=self._headers(group))

    def _headers(self, group: str) -> dict[str, str]:
        if group in ("large", "small"):
            return {"x-litellm-model-id": f"{group}-only", "x-litellm-response-cost": "0.001"}
        self.n_decisions += 1
        return {
            "x-litellm-model-id": "small",
            "x-litellm-response-cost": "0.0001",
            "x-echo-decision-id": f"d{self.n_decisions}",
            "x-echo-policy": "demo",
            "x-echo-examples": "1",
        }

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": True})

    async def _take_feedback(self, request: Request) -> Response:
        body = await request.json()
        if self.refuses_feedback:
            return JSONResponse({"detail": "unknown"}, status_code=404)
        self.feedback[body["decision_id"]] = body["score"]
        return JSONResponse({})

    async def _decision(self, request: Request) -> Response:
        return JSONResponse(decision(request.path_params["id"]))

    async def _example(self, request: Request) -> Response:
        return JSONResponse({"id": "e1", "request": "earlier?", "response": "earlier [x].", "teacher": "large"})

    async def _stats(self, request: Request) -> Response:
        return JSONResponse({"demo-epsilon": {"counts": {}, "arms": []}})


def decision(decision_id: str) -> dict[str, Any]:
    """An explanation as the real proxy gives it."""
    candidate = {"distance": 0.1, "names": "held", "utility": 0.9}
    return {
        "id": decision_id,
        "policy": "demo-epsilon",
        "reward": 0.98,
        "quality": 1.0,
        "cost_usd": 1e-6,
        "latency_s": 0.01,
        "explanation": {
            "candidates": [
                {"id": "e0", "request": "other?", "fate": "left out: threshold", **candidate},
                {"id": "e1", "request": "earlier?", "fate": "used", **candidate},
            ],
            "decision": {
                "arm": "small+1",
                "segment": "utility[0.8,1.0] names=held",
                "arms": {
                    "small+1": {"probability": 0.97, "mean_reward": 0.9, "weight": 5.0},
                    "large+0": {"probability": 0.03, "mean_reward": 0.8, "weight": 4.0},
                },
                "adjustments": ["floor 0.005"],
            },
            "plan_s": 0.004,
        },
    }


def _completion(text: str) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


@contextlib.contextmanager
def serving(proxy: FakeProxy) -> Iterator[Connection]:
    """The fake on a free port of this machine, in a thread."""
    config = uvicorn.Config(proxy.app(), host="127.0.0.1", port=0, log_level="error", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Connection(listener.getsockname()[1], KEY)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def main() -> None:
    """Serve as a process of its own: port, number of requests and seed of the stream whose answers it knows."""
    port, n, seed = map(int, sys.argv[1:4])
    proxy = FakeProxy(key=os.environ[KEY_VARIABLE])
    proxy.knows(stream(make_world(), n, seed))
    uvicorn.run(proxy.app(), host="127.0.0.1", port=port, log_level="error", ws="none", lifespan="off")


if __name__ == "__main__":
    main()
