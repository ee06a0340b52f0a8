"""What may a chat request ask of a local model? OpenAI's fields, checked; what cannot be done is refused by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

_IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
     "extra_headers", "max_retries"}
)  # fmt: skip
"""They change no answer of a local model."""
_MOST_STOPS = 64
"""OpenAI allows 4. Each is looked for after each token."""
_MOST_STOP_CHARACTERS = 500
_MOST_BIASES = 1000
_MOST_DIGITS = 10
_MOST_HINT_CHARACTERS = 20_000
"""A longer hint is cut: it only speeds an answer up."""
_MOST_MESSAGE_CHARACTERS = 500
"""Of what a caller is told; it may repeat what the caller sent."""


class ChatRejected(Exception):
    """A request that a local model cannot serve as it was asked. Its message is short and in whole characters."""

    def __init__(self, message: str, field: str | None = None, code: str = "invalid_request_error") -> None:
        super().__init__(_sendable(message))
        self.field = None if field is None else _sendable(field)
        """Which part of the request; None = all of it."""
        self.code = code
        """`context_length_exceeded`, or the general one."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. Defaults are llama.cpp's."""

    temperature: float = 0.8
    """0 = always the likeliest."""
    top_p: float = 0.95
    """Share of probability that stays in the draw, [0, 1]."""
    top_k: int = 40
    """Number of tokens that stay in the draw; 0 = all."""
    min_p: float = 0.05
    """Least probability relative to the likeliest, [0, 1]."""
    typical_p: float = 1.0
    """Locally typical sampling; 1 = off."""
    frequency_penalty: float = 0.0
    """Per earlier use of a token, [-2, 2]."""
    presence_penalty: float = 0.0
    """Once for a token that was used, [-2, 2]."""
    repeat_penalty: float = 1.0
    """Divides the logit of used tokens; 1 = off."""
    seed: int | None = None
    """Same seed, same draws; None = the model's own."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, bias) pairs."""


@dataclass(frozen=True, slots=True)
class Service:
    """What the proxy knows of a request beside its words. Never taken from the caller's own body."""

    scope: str = ""
    """Whose request it is: the queue is fair between scopes, and prefixes are shared within one."""
    priority: int = 0
    """Higher is served first."""
    deadline_s: float | None = None
    """Time to the whole answer from now, in seconds; None = none."""
    hints: tuple[str, ...] = ()
    """Texts that the answer may resemble, the likeliest first: retrieved answers. They only speed it up."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request in the terms of this package."""

    messages: tuple[Mapping[str, str], ...]
    """With `role` and `content`, as chat templates want them."""
    sampling: Sampling
    max_tokens: int | None
    """Longest answer; None = what the context leaves."""
    stop: tuple[str, ...]
    """Texts that end the answer and are not part of it."""
    grammar: Literal["text", "json"]
    """`json` = only JSON comes out."""
    json_schema: str | None
    """The schema it follows, as JSON; None = any."""
    is_streamed: bool
    """Whether pieces are wanted as they come."""
    wants_usage: bool
    """Whether the stream ends with the token counts."""
    n_logprobs: int | None = None
    """Likeliest rivals that are told for each token, 0 = only its own chance; None = no chances at all."""
    service: Service = Service()


def _whole(value: object) -> object:
    """Question marks for half surrogates, which JSON can bring and UTF-8 cannot."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


_Text = Annotated[str, BeforeValidator(_whole)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    type: Literal["text"]
    text: _Text


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | list[_Part] | None = None
    name: str | None = None
    # LiteLLM and OpenAI's client send these back with an assistant's message.
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: Any = None
    cache_control: Any = None
    reasoning_content: Any = None
    provider_specific_fields: Any = None


class _JsonSchema(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_: dict[str, Any] = Field(alias="schema")


class _ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class _Service(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    scope: str = Field(default="", max_length=200)
    priority: int = Field(default=0, ge=-100, le=100)
    deadline_s: float | None = Field(default=None, gt=0)
    hints: list[_Text] = Field(default_factory=list, max_length=8)


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    include_usage: bool = False


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Body(BaseModel):
    """The fields that are understood; any other is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str | None = None
    messages: list[_Message] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    repeat_penalty: float | None = Field(default=None, gt=0, le=10)
    seed: int | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=_MOST_BIASES)] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=_MOST_STOP_CHARACTERS), BeforeValidator(_whole)]],
            Field(max_length=_MOST_STOPS),
            BeforeValidator(_as_list),
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    response_format: _ResponseFormat | None = None
    n: Literal[1] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    echo_service: _Service | None = None
    tool_choice: Literal["none"] | None = None


def parse_chat(raw: object) -> ChatRequest:
    """The request in a decoded JSON body. Raises ChatRejected, naming the field."""
    if not isinstance(raw, Mapping):
        raise ChatRejected(f"expected a JSON object, got {type(raw).__name__}")
    try:
        body = _Body.model_validate({key: value for key, value in raw.items() if _says_something(key, value)})
    except ValidationError as error:
        raise _rejection(error) from error
    return ChatRequest(
        messages=tuple(_message(one) for one in body.messages),
        sampling=_sampling(body),
        max_tokens=_max_tokens(body),
        stop=tuple(body.stop or ()),
        grammar="text" if body.response_format is None or body.response_format.type == "text" else "json",
        json_schema=_schema(body.response_format),
        is_streamed=bool(body.stream),
        wants_usage=bool(body.stream_options and body.stream_options.include_usage),
        n_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        service=_service(body.echo_service),
    )


_DRAWING = {
    "temperature", "top_p", "top_k", "min_p", "typical_p", "frequency_penalty", "presence_penalty", "repeat_penalty"
}  # fmt: skip
"""Fields of a body that are fields of Sampling too."""


def unsupported_fields(params: Mapping[str, object]) -> frozenset[str]:
    """Names of parameters that would be refused whatever their value, `tools` for example."""
    return frozenset(
        key for key, value in params.items() if _says_something(key, value) and key not in _Body.model_fields
    )


def _says_something(key: str, value: object) -> bool:
    return key not in _IGNORED and value is not None and value != []


def _max_tokens(body: _Body) -> int | None:
    """OpenAI has two names for it; LiteLLM may send both."""
    given = [value for value in (body.max_tokens, body.max_completion_tokens) if value is not None]
    return min(given) if given else None


def _message(message: _Message) -> Mapping[str, str]:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content or ())
    # Templates know no `developer`; it is OpenAI's newer word for the same role.
    return {"role": "system" if message.role == "developer" else message.role, "content": text}


def _service(given: _Service | None) -> Service:
    if given is None:
        return Service()
    return Service(
        given.scope, given.priority, given.deadline_s, tuple(one[:_MOST_HINT_CHARACTERS] for one in given.hints)
    )


def _sampling(body: _Body) -> Sampling:
    given = body.model_dump(include=_DRAWING, exclude_none=True)
    # llama.cpp's seeds have 32 bits; OpenAI's may be longer or negative.
    seed = None if body.seed is None else body.seed % 2**32
    return Sampling(**given, seed=seed, logit_bias=_logit_bias(body.logit_bias))


def _logit_bias(raw: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    return tuple((_token(key), bias) for key, bias in (raw or {}).items())


def _token(key: str) -> int:
    # int() alone knows `1_0` too, and needs long for many digits.
    if not (key.isascii() and key.removeprefix("-").isdigit() and len(key) <= _MOST_DIGITS):
        raise ChatRejected(f"logit_bias: expected token numbers as keys, got {_short(key)}", "logit_bias")
    return int(key)


def _schema(response_format: _ResponseFormat | None) -> str | None:
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return None if response_format.schema_ is None else _as_text(response_format.schema_)
    if response_format.json_schema is None:
        raise ChatRejected(
            "response_format.json_schema: expected an object with a schema, got nothing", "response_format"
        )
    return _as_text(response_format.json_schema.schema_)


def _as_text(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(schema)
    except (ValueError, RecursionError) as error:
        raise ChatRejected("response_format: expected a schema that is not too deep", "response_format") from error


def _rejection(error: ValidationError) -> ChatRejected:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return ChatRejected(f"{field}: not supported by local models", field)
    if first["type"] == "missing":
        return ChatRejected(f"{field}: expected it to be there, got nothing", field)
    return ChatRejected(f"{field}: {first['msg']}, got {_short(first['input'])}", field)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        return type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def _sendable(text: str) -> str:
    cut = text if len(text) <= _MOST_MESSAGE_CHARACTERS else text[: _MOST_MESSAGE_CHARACTERS - 3] + "..."
    return cut.encode("utf-8", "replace").decode()
