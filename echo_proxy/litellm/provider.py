"""How does LiteLLM reach a local model? `model: llama_cpp/<name>`, with this module's `provider` as its handler.

    model_list:
      - model_name: small
        litellm_params: {model: llama_cpp/small}
        model_info:
          llama_cpp: {path: models/small.gguf, n_ctx: 4096}
    litellm_settings:
      custom_provider_map: [{provider: llama_cpp, custom_handler: echo_proxy.litellm.provider.provider}]

The options stand in `model_info`, because LiteLLM's router writes it over whatever a client sends; `litellm_params`
can be overridden by the request, and a client must not choose files of this machine.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import httpx
import litellm
from litellm.exceptions import (
    BadRequestError,
    ContextWindowExceededError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    ServiceUnavailableError,
    Timeout,
)
from litellm.llms.custom_llm import CustomLLM
from litellm.types.utils import (
    ChoiceLogprobs,
    Delta,
    GenericStreamingChunk,
    ModelResponse,
    ModelResponseStream,
    StreamingChoices,
)

from echo_proxy.engine.chat import unsupported_fields
from echo_proxy.errors import LocalModelError
from echo_proxy.litellm.calls import stranger
from echo_proxy.litellm.config import PROVIDER
from echo_proxy.litellm.local import OPTIONS
from echo_proxy.litellm.runtime import get_desk
from echo_proxy.local.client import Call, LocalClient, LocalModelRefusal, LocalModelTimeout
from echo_proxy.local.encoding import encode_json
from echo_proxy.local.fleet import Fleet, shared_fleet
from echo_proxy.local.options import LocalModel, parse_model
from echo_proxy.settings import Settings
from echo_proxy.types import Service

_DEFAULT_TIMEOUT_S = 600.0
"""LiteLLM's own."""
_CONNECT_S = 5.0
_SERVICE = "echo_service"
"""Field of the body that is Echo's alone."""

Chunk = GenericStreamingChunk | ModelResponseStream
"""What LiteLLM takes as a piece of a stream; only the second can hold logprobs, only the first the token counts."""


class LlamaCppProvider(CustomLLM):
    """LiteLLM's handler for `llama_cpp/...`. Holds no weights: it asks the process that all workers share."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Nothing starts before the first call or `warm_up_models`. Settings: None = from the environment."""
        super().__init__()
        self._settings = settings
        self._client = LocalClient()
        self._parsed: dict[tuple[str, str], LocalModel] = {}

    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """A whole answer."""
        try:
            answer = await self._client.ask(self._call(kwargs, is_streamed=False))
        except LocalModelError as error:
            raise _as_litellm(error, kwargs["model"]) from error
        return _fill(kwargs["model_response"], answer, kwargs["model"])

    def completion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """A whole answer, for callers without an event loop."""
        try:
            answer = self._client.ask_sync(self._call(kwargs, is_streamed=False))
        except LocalModelError as error:
            raise _as_litellm(error, kwargs["model"]) from error
        return _fill(kwargs["model_response"], answer, kwargs["model"])

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[Chunk]:  # type: ignore[override] # the base class lacks `yield`
        """An answer piece by piece; the last chunk has the token counts."""
        try:
            stitcher = _Stitcher(kwargs["model"])
            async with aclosing(self._client.stream(self._call(kwargs, is_streamed=True))) as chunks:
                async for chunk in chunks:
                    for piece in stitcher.take(chunk):
                        yield piece
        except LocalModelError as error:
            raise _as_litellm(error, kwargs["model"]) from error

    def streaming(self, *args: Any, **kwargs: Any) -> Iterator[Chunk]:  # type: ignore[override] # it takes both
        """An answer piece by piece, for callers without an event loop."""
        try:
            stitcher = _Stitcher(kwargs["model"])
            with closing(self._client.stream_sync(self._call(kwargs, is_streamed=True))) as chunks:
                for chunk in chunks:
                    yield from stitcher.take(chunk)
        except LocalModelError as error:
            raise _as_litellm(error, kwargs["model"]) from error

    async def aclose(self) -> None:
        """Close the connections; the models keep running."""
        self._client.close()
        await self._client.aclose()

    # ------------------------------------------------------------------ request

    def _call(self, kwargs: Mapping[str, Any], *, is_streamed: bool) -> Call:
        """Raises LocalModelError when the model is not configured well."""
        params = dict(kwargs.get("optional_params") or {})
        litellm_params = kwargs.get("litellm_params") or {}
        model = self._model(kwargs["model"].removeprefix(f"{PROVIDER}/"), litellm_params)
        if litellm.drop_params or litellm_params.get("drop_params"):
            for name in unsupported_fields(params):
                del params[name]
        body = {
            **params,
            "model": model.name,
            "messages": kwargs["messages"],
            "stream": is_streamed,
            _SERVICE: asdict(_service(litellm_params)),  # last, so that it replaces one that a caller has sent
        }
        if is_streamed:
            body["stream_options"] = {"include_usage": True}
        return Call(
            supervisor=self._fleet.ensure(model),
            content=encode_json(body, _plain),
            timeout=_timeout(kwargs.get("timeout")),
            asked=model,
        )

    def _model(self, name: str, litellm_params: Mapping[str, Any]) -> LocalModel:
        raw = (litellm_params.get("model_info") or {}).get(OPTIONS)
        # Only one of the deployments that share a model needs to carry its options.
        known = self._fleet.find(name) if raw is None else None
        return known or self._parse(name, raw)

    @property
    def _fleet(self) -> Fleet:
        return shared_fleet(self._known_settings.folder)

    @property
    def _known_settings(self) -> Settings:
        if self._settings is None:  # read once: it takes longer than the rest of a call
            self._settings = Settings()
        return self._settings

    def _parse(self, name: str, raw: object) -> LocalModel:
        key = (name, json.dumps(raw, sort_keys=True, default=str))
        model = self._parsed.get(key)
        if model is None:
            model = self._parsed[key] = parse_model(name, raw, _config_folder(self._known_settings))
        return model


provider = LlamaCppProvider()
"""What `custom_provider_map` names."""


def _service(litellm_params: Mapping[str, Any]) -> Service:
    """What the engine is told beside the caller's words."""
    desk = get_desk()
    return desk.service(litellm_params) if desk is not None else stranger(litellm_params)


def _config_folder(settings: Settings) -> Path | None:
    config = settings.litellm_config or os.environ.get("CONFIG_FILE_PATH")
    return Path(config).absolute().parent if config else None


# ---------------------------------------------------------------------- answers


def _fill(response: ModelResponse, answer: Mapping[str, Any], name: str) -> ModelResponse:
    choice = answer["choices"][0]
    response.id = answer["id"]
    response.created = answer["created"]
    response.model = name
    response.choices[0].message.content = choice["message"]["content"]
    response.choices[0].finish_reason = choice["finish_reason"]
    if choice.get("logprobs"):
        response.choices[0].logprobs = ChoiceLogprobs(**choice["logprobs"])
    response.usage = litellm.Usage(**answer["usage"])  # type: ignore[attr-defined] # LiteLLM sets it this way too
    return response


class _Stitcher:
    """Puts the end of an answer and its token counts into one chunk: LiteLLM stops looking after the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reason = ""
        self._has_begun = False

    def take(self, chunk: Mapping[str, Any]) -> Iterator[Chunk]:
        """What LiteLLM is given for a chunk; at most three chunks."""
        for choice in chunk["choices"]:
            self._reason = choice["finish_reason"] or self._reason
            text = choice["delta"].get("content") or ""
            if choice.get("logprobs"):
                yield from self._with_logprobs(chunk, text, choice["logprobs"])
            elif text:
                self._has_begun = True
                yield _chunk(text)
        if chunk.get("usage"):
            yield _chunk("", self._reason or "stop", chunk["usage"])

    def _with_logprobs(self, chunk: Mapping[str, Any], text: str, logprobs: Mapping[str, Any]) -> Iterator[Chunk]:
        """LiteLLM passes such a chunk on as it is, and does not note that the answer has begun: if the stream broke
        then, a fallback would begin it again. So the role goes ahead in a chunk that it does note."""
        if not self._has_begun:
            self._has_begun = True
            yield _beginning(chunk["id"])
        choice = StreamingChoices(index=0, delta=Delta(content=text), logprobs=dict(logprobs))
        yield ModelResponseStream(id=chunk["id"], created=chunk["created"], model=self._name, choices=[choice])


class _Identified(dict[str, Any]):
    """A chunk whose id LiteLLM takes over for those that follow: it looks for an attribute of that name."""

    def __init__(self, chunk: GenericStreamingChunk, id: str) -> None:
        super().__init__(chunk)
        self.id = id


def _beginning(id: str) -> GenericStreamingChunk:
    """The role alone. Without the last field LiteLLM would take it for empty and drop it."""
    beginning = _chunk("")
    beginning["provider_specific_fields"] = {}
    return cast(GenericStreamingChunk, _Identified(beginning, id))


def _chunk(text: str, reason: str = "", usage: Any = None) -> GenericStreamingChunk:
    return GenericStreamingChunk(
        text=text, is_finished=bool(reason), finish_reason=reason, usage=usage, index=0, tool_use=None
    )


def _plain(value: Any) -> Any:
    """LiteLLM's own message objects may stand among the messages."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    raise TypeError(f"expected something that JSON can hold, got {type(value).__name__}")


def _timeout(given: float | httpx.Timeout | None) -> httpx.Timeout:
    if isinstance(given, httpx.Timeout):
        return given
    return httpx.Timeout(float(given or _DEFAULT_TIMEOUT_S), connect=_CONNECT_S)


# ---------------------------------------------------------------------- errors


def _as_litellm(error: LocalModelError, name: str) -> Exception:
    """The exception that LiteLLM's retries, fallbacks and cooldowns understand."""
    text = str(error)
    if isinstance(error, LocalModelTimeout):
        return Timeout(text, name, PROVIDER)
    if not isinstance(error, LocalModelRefusal):
        return ServiceUnavailableError(text, PROVIDER, name)
    if error.code == "context_length_exceeded":
        return ContextWindowExceededError(text, name, PROVIDER)
    if error.status == httpx.codes.TOO_MANY_REQUESTS:
        return RateLimitError(text, PROVIDER, name, response=_response(error))
    if error.status == httpx.codes.SERVICE_UNAVAILABLE:
        return ServiceUnavailableError(text, PROVIDER, name, response=_response(error))
    if error.status == httpx.codes.NOT_FOUND:
        return NotFoundError(text, name, PROVIDER)
    if error.status in (httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE):
        return BadRequestError(text, name, PROVIDER)
    return InternalServerError(text, PROVIDER, name)


def _response(error: LocalModelRefusal) -> httpx.Response:
    """LiteLLM reads Retry-After from it."""
    headers = {"retry-after": error.retry_after} if error.retry_after else {}
    request = httpx.Request("POST", "http://local/v1/chat/completions")
    return httpx.Response(error.status, headers=headers, request=request)
