"""A scripted OpenAI-compatible upstream over real HTTP: answers by rule, with latency, errors and streams.

The model's name says how it behaves: `small` answers `small: <question>`, `large` answers `large: <question>`; the
question can ask for trouble: `[500]`, `[slow]`, `[cut]` (breaks off in mid-stream), `[refuse]`, `[empty]`, `[long]`
(finish reason length), `[words N]`, `[fails N]` (so many times, after a second).
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


class ScriptedUpstream:
    """The app, and what it was asked."""

    def __init__(self, word_s: float = 0.0, first_s: float = 0.0) -> None:
        self.word_s = word_s
        """Seconds between the words of a stream."""
        self.first_s = first_s
        """Seconds before an answer begins."""
        self.asked: list[dict[str, Any]] = []
        self.failed: dict[str, int] = {}
        """How often a question was failed on purpose."""
        self.broken: set[str] = set()
        """Models that answer with HTTP 500."""
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
                Route("/asked", self._asked, methods=["GET", "DELETE"]),
                Route("/broken", self._set_broken, methods=["PUT"]),
            ]
        )

    async def _asked(self, request: Request) -> Response:
        asked = list(self.asked)
        if request.method == "DELETE":
            self.asked.clear()
        return JSONResponse(asked)

    async def _set_broken(self, request: Request) -> Response:
        self.broken = set(await request.json())
        return JSONResponse([])

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        question = _text(body["messages"][-1]["content"])
        if body["model"] in self.broken or "[500]" in question:
            return JSONResponse({"error": {"message": "scripted failure", "type": "server_error"}}, 500)
        if self._must_fail(question):
            await asyncio.sleep(1.0)
            return JSONResponse({"error": {"message": "scripted failure", "type": "server_error"}}, 500)
        await asyncio.sleep(self.first_s + (5.0 if "[slow]" in question else 0.0))
        text, reason = _answer(body["model"], question)
        if body.get("stream"):
            return StreamingResponse(self._chunks(body, text, reason, question), media_type="text/event-stream")
        return JSONResponse(
            {
                **_base(body, "chat.completion"),
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}],
                "usage": _usage(body, text),
            }
        )

    def _must_fail(self, question: str) -> bool:
        times = re.search(r"\[fails (\d+)\]", question)
        if times is None or self.failed.get(question, 0) >= int(times.group(1)):
            return False
        self.failed[question] = self.failed.get(question, 0) + 1
        return True

    async def _chunks(self, body: dict[str, Any], text: str, reason: str, question: str) -> AsyncIterator[str]:
        base = _base(body, "chat.completion.chunk")
        for number, word in enumerate(text.split(" ")):
            if "[cut]" in question and number == 2:
                raise ConnectionResetError("scripted break in mid-stream")
            delta = {"role": "assistant", "content": word if number == 0 else f" {word}"}
            yield _event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            await asyncio.sleep(self.word_s)
        yield _event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        yield _event({**base, "choices": [], "usage": _usage(body, text)})
        yield "data: [DONE]\n\n"

    async def _responses(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        given = body["input"]
        question = given if isinstance(given, str) else _text(given[-1]["content"])
        text, _ = _answer(body["model"], question)
        item = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }
        reply = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": body["model"],
            "status": "completed",
            "output": [item],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 5,
                "output_tokens": len(text.split()),
                "total_tokens": 5 + len(text.split()),
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }
        if not body.get("stream"):
            return JSONResponse(reply)
        return StreamingResponse(self._response_events(reply, item, text), media_type="text/event-stream")

    async def _response_events(self, reply: dict[str, Any], item: dict[str, Any], text: str) -> AsyncIterator[str]:
        empty = {**item, "content": [], "status": "in_progress"}
        started = {**reply, "output": [], "status": "in_progress", "usage": None}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": started},
            {"type": "response.output_item.added", "output_index": 0, "item": empty},
        ]
        events += [
            {
                "type": "response.output_text.delta",
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": word + " ",
            }
            for word in text.split(" ")
        ]
        events += [
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": reply},
        ]
        for number, event in enumerate(events):
            yield f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"
            await asyncio.sleep(self.word_s)

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        choice = {"index": 0, "text": f"{body['model']}: {body['prompt']}", "finish_reason": "stop", "logprobs": None}
        return JSONResponse(
            {**_base(body, "text_completion"), "choices": [choice], "usage": _usage(body, choice["text"])}
        )

    async def _embeddings(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        rows = [{"object": "embedding", "index": i, "embedding": [1.0, 2.0, 3.0]} for i, _ in enumerate(texts)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return JSONResponse({"object": "list", "model": body["model"], "data": rows, "usage": usage})


def _answer(model: str, question: str) -> tuple[str, str]:
    if "[refuse]" in question:
        return "I'm sorry, but I can't help with that.", "stop"
    if "[empty]" in question:
        return "", "stop"
    words = re.search(r"\[words (\d+)\]", question)
    text = " ".join(["word"] * int(words.group(1))) if words else f"{model}: {question}"
    return text, "length" if "[long]" in question else "stop"


def _base(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "scripted", "object": kind, "created": 1, "model": body["model"]}


def _usage(body: dict[str, Any], text: str) -> dict[str, int]:
    asked = sum(len(_text(one["content"]).split()) for one in body.get("messages", []))
    return {
        "prompt_tokens": asked,
        "completion_tokens": len(text.split()),
        "total_tokens": asked + len(text.split()),
    }


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _event(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload)}\n\n"


def main() -> None:
    """Run alone: `python -m tests.upstream PORT [WORD_SECONDS] [FIRST_SECONDS]`."""
    import sys

    import uvicorn

    waits = [float(value) for value in sys.argv[2:4]]
    upstream = ScriptedUpstream(*waits)
    uvicorn.run(upstream.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
