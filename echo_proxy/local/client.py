"""How does the proxy ask a local model? Over loopback, waiting a little while its process is loaded or restarted."""

import asyncio
import json
import time
import weakref
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

import httpx

from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import LocalModel
from echo_proxy.local.state import ModelState
from echo_proxy.local.supervisor import Supervisor

_POLL_S = 0.02
_DONE = "data: [DONE]"
_LATE_STATUS = {"queue_full": 429, "model_unavailable": 503}
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=300)
"""No limit of connections: the model's own queue refuses what is too much. Its keep-alive is longer than ours."""


class LocalModelAway(LocalModelError):
    """The process of the model is not there, or ended before the answer did."""


class _Cut(LocalModelAway):
    """The process took the request and ended."""


class LocalModelTimeout(LocalModelError):
    """The answer did not come in time."""


class LocalModelRefusal(LocalModelError):
    """The process of the model answered with an error."""

    def __init__(self, status: int, message: str, code: str, retry_after: str | None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.code = code
        """`context_length_exceeded`, `queue_full`, ..."""
        self.retry_after = retry_after
        """The header of that name, in seconds."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model."""

    supervisor: Supervisor
    """Of the model's process."""
    content: bytes
    """The JSON body; `model` in it names the model, unless it is the only one of its process."""
    timeout: httpx.Timeout
    asked: LocalModel | None = None
    """The model that is asked; None = the only one of its process."""

    @property
    def model(self) -> LocalModel:
        """The model that is asked."""
        return self.asked or self.supervisor.group.models[0]

    def request(self, http: httpx.Client | httpx.AsyncClient, state: ModelState) -> httpx.Request:
        """To the process in that state."""
        return http.build_request(
            "POST",
            f"{state.url}/v1/chat/completions",
            content=self.content,
            headers={"Authorization": f"Bearer {state.token}", "Content-Type": "application/json"},
            timeout=self.timeout,
        )


class _Search:
    """Looks for a process that can be asked, until it takes too long."""

    def __init__(self, call: Call) -> None:
        self._supervisor = call.supervisor
        self._name = call.model.name
        self._max_wait_s = call.model.options.max_wait_s
        self._answer_by = time.monotonic() + (call.timeout.read or float("inf"))
        self._found = self._refused = ""
        self._is_second = False
        self._begin()

    def _begin(self) -> None:
        self._wait_s = min(self._max_wait_s, self._answer_by - time.monotonic())
        self._deadline = time.monotonic() + self._wait_s

    def begin_again(self) -> bool:
        """The process that was found has ended: look for the next. False = not twice, or the call's time is over."""
        if self._is_second or time.monotonic() >= self._answer_by:
            return False
        self._is_second, self._refused = True, self._found
        self._begin()
        return True

    def look(self) -> ModelState | None:
        """A ready process; None = look again. Raises LocalModelAway."""
        name, state = self._name, self._supervisor.state()
        is_ours = state is not None and state.fingerprint == self._supervisor.fingerprint
        if state is not None and is_ours and state.phase == "ready" and state.token != self._refused:
            self._found = state.token
            return state
        if state is not None and is_ours and state.phase == "failed":
            raise LocalModelAway(f"local model {name} could not be started: {state.error}")
        if time.monotonic() < self._deadline:
            return None
        if state is not None and not is_ours:
            raise LocalModelAway(
                f"local model {name} runs with other options, started by process {state.supervisor_pid}; "
                "stop that proxy, or give the model another name or the proxy another ECHO_STATE_DIR"
            )
        ended = f": {state.error}" if state is not None and state.error else ""
        raise LocalModelAway(f"local model {name} was not ready within {round(self._wait_s, 2):g} s{ended}")

    def refuse(self, state: ModelState) -> None:
        """Nobody listens there: wait for the next process."""
        self._refused = state.token


class LocalClient:
    """Asks local models, from an event loop or from a thread."""

    def __init__(self) -> None:
        self._sync: httpx.Client | None = None
        # A connection belongs to the loop that opened it.
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient]
        self._by_loop = weakref.WeakKeyDictionary()

    async def ask(self, call: Call) -> dict[str, Any]:
        """The whole answer. Raises LocalModelAway, LocalModelTimeout, LocalModelRefusal."""
        return _answer(await self._send(call, _Search(call), is_streamed=False))

    async def stream(self, call: Call) -> AsyncGenerator[dict[str, Any], None]:
        """The answer's chunks. Closing the iterator ends the work in the model. Raises as `ask`.

        When the process ends before the first chunk, the request is sent once more, to the process that is started in
        its place: nothing has reached the caller yet. Once, so that a request that ends its process does not do so for
        ever. Only streams: LiteLLM retries whole answers, and Echo then chooses again which deployment shall answer,
        but it does not retry a custom provider's stream that fails before its first chunk.
        """
        search, has_begun = _Search(call), False
        while True:
            try:
                async with aclosing(self._stream_once(call, search)) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        yield chunk
                return
            except _Cut:
                if has_begun or not search.begin_again():
                    raise

    async def _stream_once(self, call: Call, search: _Search) -> AsyncGenerator[dict[str, Any], None]:
        response = await self._send(call, search, is_streamed=True)
        is_done = False  # what follows the mark is read too: only then can the connection be used again
        try:
            if response.is_error:
                await response.aread()
                raise _refusal(response)
            async for line in response.aiter_lines():
                is_done = is_done or line == _DONE
                if line and not is_done:
                    yield _chunk(line)
        except httpx.HTTPError as error:
            raise _explained(error, call) from error
        finally:
            await response.aclose()
        if not is_done:
            raise _cut(call)

    async def _send(self, call: Call, search: _Search, *, is_streamed: bool) -> httpx.Response:
        http = self._async_http()
        while True:
            while (state := search.look()) is None:
                await asyncio.sleep(_POLL_S)
            try:
                return await http.send(call.request(http, state), stream=is_streamed)
            except httpx.ConnectError:
                search.refuse(state)
            except httpx.HTTPError as error:
                raise _explained(error, call) from error

    def ask_sync(self, call: Call) -> dict[str, Any]:
        """As `ask`, for callers without an event loop."""
        return _answer(self._send_sync(call, _Search(call), is_streamed=False))

    def stream_sync(self, call: Call) -> Generator[dict[str, Any], None, None]:
        """As `stream`, for callers without an event loop."""
        search, has_begun = _Search(call), False
        while True:
            try:
                with closing(self._stream_once_sync(call, search)) as chunks:
                    for chunk in chunks:
                        has_begun = True
                        yield chunk
                return
            except _Cut:
                if has_begun or not search.begin_again():
                    raise

    def _stream_once_sync(self, call: Call, search: _Search) -> Generator[dict[str, Any], None, None]:
        response = self._send_sync(call, search, is_streamed=True)
        is_done = False  # what follows the mark is read too: only then can the connection be used again
        try:
            if response.is_error:
                response.read()
                raise _refusal(response)
            for line in response.iter_lines():
                is_done = is_done or line == _DONE
                if line and not is_done:
                    yield _chunk(line)
        except httpx.HTTPError as error:
            raise _explained(error, call) from error
        finally:
            response.close()
        if not is_done:
            raise _cut(call)

    def _send_sync(self, call: Call, search: _Search, *, is_streamed: bool) -> httpx.Response:
        http = self._sync_http()
        while True:
            while (state := search.look()) is None:
                time.sleep(_POLL_S)
            try:
                return http.send(call.request(http, state), stream=is_streamed)
            except httpx.ConnectError:
                search.refuse(state)
            except httpx.HTTPError as error:
                raise _explained(error, call) from error

    def _async_http(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        http = self._by_loop.get(loop)
        if http is None:
            # No proxies from the environment: this is loopback.
            http = self._by_loop[loop] = httpx.AsyncClient(trust_env=False, limits=_LIMITS)
        return http

    def _sync_http(self) -> httpx.Client:
        if self._sync is None:
            self._sync = httpx.Client(trust_env=False, limits=_LIMITS)
        return self._sync

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        http = self._by_loop.pop(asyncio.get_running_loop(), None)
        if http is not None:
            await http.aclose()

    def close(self) -> None:
        """Close the connections of callers without an event loop."""
        if self._sync is not None:
            self._sync.close()
            self._sync = None


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise _refusal(response)
    answer: dict[str, Any] = json.loads(response.content)
    return answer


def _chunk(line: str) -> dict[str, Any]:
    chunk: dict[str, Any] = json.loads(line.removeprefix("data: "))
    if "error" in chunk:
        raise _refused_late(chunk["error"])
    return chunk


def _refused_late(error: Mapping[str, Any]) -> LocalModelRefusal:
    """An error after the status line had gone out: what the status would have been."""
    code, retry_after_s = str(error["code"]), error.get("retry_after_s")
    retry_after = None if retry_after_s is None else str(retry_after_s)
    return LocalModelRefusal(_LATE_STATUS.get(code, 500), str(error["message"]), code, retry_after)


def _refusal(response: httpx.Response) -> LocalModelRefusal:
    retry_after = response.headers.get("retry-after")
    try:
        error: Mapping[str, Any] = json.loads(response.content)["error"]
        return LocalModelRefusal(response.status_code, str(error["message"]), str(error["code"]), retry_after)
    except (ValueError, KeyError, TypeError):
        message = f"expected a JSON error, got HTTP {response.status_code}: {response.text[:200]}"
        return LocalModelRefusal(response.status_code, message, "", retry_after)


def _explained(error: httpx.HTTPError, call: Call) -> LocalModelError:
    name = call.model.name
    if isinstance(error, httpx.TimeoutException):
        wait = "in time" if call.timeout.read is None else f"within {call.timeout.read:g} s"
        return LocalModelTimeout(f"local model {name} did not answer {wait}")
    return _cut(call)


def _cut(call: Call) -> _Cut:
    return _Cut(f"local model {call.model.name} ended in the middle of an answer")
