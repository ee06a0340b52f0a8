"""How does an answer that was given before reach a caller? As that of a model of its own, `echo_stored/answer`.

So LiteLLM's key checks, budgets, guardrails, logs, streams and endpoints treat it as they treat any answer; no model is
called, and it costs nothing. The deployment is in no config: it is made for one request, out of a healthy one.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any

import litellm
from litellm.exceptions import ServiceUnavailableError
from litellm.llms.custom_llm import CustomLLM
from litellm.types.utils import GenericStreamingChunk, ModelResponse

from echo_proxy.litellm.deployments import Deployment
from echo_proxy.types import STORED

_PROVIDER = "echo_stored"
_MODEL = f"{_PROVIDER}/answer"
_DECISION = "echo_decision"
"""Field of `model_info`, which LiteLLM's router writes over whatever a client sends."""
_FREE = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "mode": "chat"}
_KEPT = ("order", "tags", "tag_regex", "region_name")
"""Settings of the deployment whose place is taken that LiteLLM still looks at: what is left out there would end as an
error. Not its limits, which are the model's."""
_NO_LIMIT = 1_000_000
"""Or else the router's default for requests in parallel would hold, and refuse what lies above."""
_MAX_TEXTS = 20_000
_PIECE = re.compile(r"(?:\s*\S+){1,4}\s*")
"""Words of a stream's chunk. # guess, not yet measured"""


def is_stored(kwargs: Mapping[str, Any]) -> bool:
    """Whether an attempt is answered without a model."""
    return (kwargs.get("model_info") or {}).get("id") == STORED


class StoredAnswers(CustomLLM):
    """LiteLLM's handler for `echo_stored/answer`, with the answers that are on their way."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: OrderedDict[str, str] = OrderedDict()

    def deployment(self, place_of: Deployment, decision_id: str, text: str) -> Deployment:
        """What LiteLLM is told answers a request, in the place of a healthy deployment of its group."""
        self._register()
        self._texts[decision_id] = text
        if len(self._texts) > _MAX_TEXTS:
            self._texts.popitem(last=False)
        params = place_of.get("litellm_params") or {}
        kept = {name: params[name] for name in _KEPT if params.get(name) is not None}
        return {
            "model_name": place_of.get("model_name"),
            "litellm_params": {**kept, "model": _MODEL, "max_parallel_requests": _NO_LIMIT},
            "model_info": {"id": STORED, **_FREE, _DECISION: decision_id},
        }

    def forget(self, decision_id: str) -> None:
        """The answer has arrived, or will not."""
        self._texts.pop(decision_id, None)

    def _register(self) -> None:
        """For every answer: LiteLLM forgets it when it reads its config, and its price when it fetches prices anew."""
        if not any(item["custom_handler"] is self for item in litellm.custom_provider_map):
            others = [item for item in litellm.custom_provider_map if item["provider"] != _PROVIDER]
            litellm.custom_provider_map = [*others, {"provider": _PROVIDER, "custom_handler": self}]
        if _PROVIDER not in litellm._custom_providers:
            litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]
        for name in (STORED, _MODEL):
            if name not in litellm.model_cost:
                litellm.model_cost[name] = {**_FREE, "litellm_provider": _PROVIDER}

    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The answer, whole."""
        text, response = self._text(kwargs), kwargs["model_response"]
        response.model = kwargs["model"]
        response.choices[0].message.content = text
        response.choices[0].finish_reason = "stop"
        response.usage = litellm.Usage(**await _usage(kwargs, text))
        return response  # type: ignore[no-any-return]

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[GenericStreamingChunk]:  # type: ignore[override] # the base class lacks `yield`
        """The answer, some words at a time; the last chunk has the token counts."""
        text = self._text(kwargs)
        for piece in _PIECE.findall(text) or [text]:
            yield _chunk(piece)
            await asyncio.sleep(0)  # a long answer must not keep the others waiting
        yield _chunk("", "stop", await _usage(kwargs, text))

    def _text(self, kwargs: Mapping[str, Any]) -> str:
        """Raises ServiceUnavailableError, on which LiteLLM asks a model instead."""
        info = (kwargs.get("litellm_params") or {}).get("model_info") or {}
        text = self._texts.get(str(info.get(_DECISION) or ""))
        if text is None:
            raise ServiceUnavailableError("the stored answer is gone", _PROVIDER, _MODEL)
        return text


async def _usage(kwargs: Mapping[str, Any], text: str) -> Any:
    """Counted as LiteLLM counts where a provider does not tell; in a thread, since a long prompt takes long."""
    n_prompt = await asyncio.to_thread(litellm.token_counter, model=_MODEL, messages=kwargs["messages"])
    n_answer = await asyncio.to_thread(litellm.token_counter, model=_MODEL, text=text, count_response_tokens=True)
    return {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}


def _chunk(text: str, reason: str = "", usage: Any = None) -> GenericStreamingChunk:
    return GenericStreamingChunk(
        text=text, is_finished=bool(reason), finish_reason=reason, usage=usage, index=0, tool_use=None
    )
