"""LiteLLM's callback: every hook hands over to the desk, and no failure of ours reaches the caller.

The only place with broad `except`. All hooks stand in the registered class itself, because LiteLLM looks some of them
up in the class and not in its bases.
"""

import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from echo_proxy.litellm.runtime import get_desk

log = logging.getLogger("echo_proxy")

_NOT_STARTED = (
    "Echo is configured as a callback but was not started in this worker: set "
    "LITELLM_WORKER_STARTUP_HOOKS=echo_proxy.litellm.startup:startup; calls pass through"
)


class EchoCallback(CustomLogger):
    """Echo inside LiteLLM."""

    def __init__(self) -> None:
        super().__init__()
        self._has_warned = False

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Choose the arm's deployment among the healthy ones."""
        desk = get_desk()
        if desk is None:
            self._warn_once()
            return healthy_deployments
        try:
            return list(await desk.pick(model, healthy_deployments, messages, request_kwargs or {}))
        except Exception as error:
            log.exception("choosing failed, LiteLLM chooses")
            desk.bypass(model, error)
            return list(desk.default(model, healthy_deployments))

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:
        """Prepend the examples once the deployment is known."""
        desk = get_desk()
        if desk is None:
            return None
        try:
            return desk.equip(kwargs)
        except Exception as error:
            log.exception("prepending examples failed, the call goes on without")
            desk.bypass(str(kwargs.get("model_group") or ""), error)
            return None

    async def async_post_call_success_deployment_hook(self, request_data: Any, response: Any, call_type: Any) -> None:
        """One attempt succeeded; what guardrails make of it for the caller comes later."""
        _quietly("noting a model's words", lambda desk: desk.note_words(request_data, response))

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Exception, call_type: Any, fallback_depth: int | None = None
    ) -> None:
        """One attempt failed."""
        _quietly("noting a failed attempt", lambda desk: desk.note_attempt_failure(request_data, exception))

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """The caller got an error."""
        _quietly("noting a failed call", lambda desk: desk.note_failure(request_data, original_exception))

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Pass the stream on, and see whether the caller reads it to its end: success events do not tell."""
        is_whole = False
        try:
            async for chunk in response:
                yield chunk
            is_whole = True
        finally:
            _quietly("noting a stream's end", lambda desk: desk.note_stream_end(request_data, is_whole))

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The call succeeded; runs beside the caller's path."""
        _quietly("settling", lambda desk: desk.note_answer(kwargs, response_obj))

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Tell the caller the decision's id, policy, arm and number of examples."""
        found: dict[str, str] = {}
        _quietly("writing headers", lambda desk: found.update(desk.headers(data)))
        return found

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.error(_NOT_STARTED)


def _quietly(doing: str, action: Callable[[Any], None]) -> None:
    desk = get_desk()
    if desk is None:
        return
    try:
        action(desk)
    except Exception as error:
        log.exception("%s failed", doing)
        desk.bypass("", error)


callback = EchoCallback()
