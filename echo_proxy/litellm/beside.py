"""How does Echo itself ask a model? By LiteLLM's own router, marked so that Echo's hooks leave the call alone."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from litellm.exceptions import BudgetExceededError
from openai import OpenAIError

from echo_proxy.errors import FAULTS, AskError
from echo_proxy.litellm.rewrite import rewrite
from echo_proxy.litellm.turns import text_of
from echo_proxy.online.sample import Ask, Reply
from echo_proxy.protocols import Clock

log = logging.getLogger("echo_proxy")

Deployment = Mapping[str, Any]
"""One of LiteLLM's deployments."""


FAILURES = (OpenAIError, BudgetExceededError, OSError, RuntimeError, *FAULTS)
"""OpenAIError is the root of LiteLLM's exceptions for providers; the others are its router's and an odd reply's."""


@dataclass(frozen=True, slots=True)
class _Errand:
    groups: frozenset[str]
    """Names by which LiteLLM may know the group that was asked."""
    deployment: str


_errand: ContextVar[_Errand | None] = ContextVar("echo_errand", default=None)
"""Set while a call of our own is on its way. It lives in this process alone, so no client can set it."""


def ours(model_group: str, healthy: Sequence[Deployment]) -> Sequence[Deployment] | None:
    """The deployments that may answer a call of our own; None when the call is a client's.

    None at all, which is an error to the asking part only, where LiteLLM would go elsewhere than the policy says: to
    a default fallback, or to another deployment because the wanted one cools down.
    """
    errand = _errand.get()
    if errand is None:
        return None
    if model_group not in errand.groups:
        return []
    return [one for one in healthy if not errand.deployment or errand.deployment in _names(one)]


def is_errand() -> bool:
    """Whether a call of our own is on its way here: nobody waits for its answer."""
    return _errand.get() is not None


class RouterModels:
    """Models asked by the router of the proxy that Echo runs in."""

    def __init__(self, get_router: Callable[[], Any], clock: Clock) -> None:
        self._get_router = get_router
        """None until LiteLLM has read its config."""
        self._clock = clock

    async def ask(self, ask: Ask) -> Reply:
        """Its answer, without retries, fallbacks and caches. Raises AskError."""
        router = self._get_router()
        if router is None:
            raise AskError("LiteLLM has no router yet")
        errand = _errand.set(_Errand(_groups(router, ask.model_group), ask.deployment))
        started = self._clock.monotonic()
        try:
            response = await router.acompletion(**_kwargs(ask))
            return _reply(response, self._clock.monotonic() - started)
        except FAILURES as error:
            # the name alone: a provider's words may repeat parts of the prompt, and this is logged
            raise AskError(f"{ask.model_group}: {type(error).__name__}") from error
        finally:
            _errand.reset(errand)


def _groups(router: Any, group: str) -> frozenset[str]:
    """Raises AskError where LiteLLM does not know the group and would take its default fallback."""
    alias = (router.model_group_alias or {}).get(group)
    target = alias.get("model") if isinstance(alias, Mapping) else alias
    if target is None and group not in router.model_names:
        raise AskError(f"expected a model group of the LiteLLM config, got {group!r}")
    return frozenset({group, str(target)} if target else {group})


def _kwargs(ask: Ask) -> dict[str, Any]:
    kwargs: dict[str, Any] = {
        "model": ask.model_group,
        "messages": [{"role": one.role, "content": one.content} for one in ask.messages],
        "max_tokens": ask.max_tokens,
        "drop_params": True,  # some models take no temperature
        "num_retries": 0,
        "disable_fallbacks": True,  # a fallback could lead to a provider that the policy does not name
        "cache": {"no-cache": True, "no-store": True},
        "metadata": {"echo": "beside"},  # for the operator's own logs; nothing here relies on it
    }
    if ask.temperature is not None:
        kwargs["temperature"] = ask.temperature
    if ask.wants_json:
        kwargs["response_format"] = {"type": "json_object"}
    return rewrite("chat", kwargs, ask.prompt) if ask.prompt.n_examples else kwargs


def _reply(response: Any, latency_s: float) -> Reply:
    """Raises AskError on a response without an answer; an odd one raises whatever its oddity brings about."""
    if not response.choices:
        raise AskError("expected an answer, got a response without choices")
    choice, usage = response.choices[0], getattr(response, "usage", None)
    hidden = getattr(response, "_hidden_params", None) or {}
    text, cost_usd = text_of(choice.message.content or ""), float(hidden.get("response_cost") or 0.0)
    if text is None:
        raise AskError(f"expected an answer in text, got {type(choice.message.content).__name__}")
    if not (math.isfinite(cost_usd) and cost_usd >= 0):
        raise AskError(f"expected a cost of at least 0 USD, got {cost_usd}")
    return Reply(
        text=text,
        finish_reason=str(choice.finish_reason or ""),
        deployment_id=str(hidden.get("model_id") or ""),
        prompt_tokens=int(getattr(usage, "prompt_tokens", 0) or 0),
        completion_tokens=int(getattr(usage, "completion_tokens", 0) or 0),
        cost_usd=cost_usd,
        latency_s=latency_s,
    )


def _names(deployment: Deployment) -> frozenset[str]:
    info, params = deployment.get("model_info") or {}, deployment.get("litellm_params") or {}
    return frozenset({str(info.get("id") or ""), str(params.get("model") or "")})
