"""What can be done for a request before it queues, on its caller's own thread? Refuse it, or turn it into tokens."""

import math
from dataclasses import dataclass
from itertools import count

from echo_proxy.engine.chat import ChatRejected, ChatRequest
from echo_proxy.engine.queue_records import Waiter
from echo_proxy.engine.runner import Language
from echo_proxy.engine.sequence import Ask

_MOST_HINTS = 4
"""Of a request; each costs time before it is queued."""


@dataclass(frozen=True, slots=True)
class EngineRules:
    """What the engine keeps to."""

    n_ctx: int
    """Longest prompt and answer together, in tokens."""
    n_parallel: int
    """Requests in the batch at once."""
    is_shared: bool
    """Whether all scopes share prefixes."""
    takes_hints: bool
    """Whether hints of requests are of use."""


class Intake:
    """Makes requests ready. May be used from any thread."""

    def __init__(self, language: Language, rules: EngineRules) -> None:
        self._language = language
        self._rules = rules
        self._numbers = count()

    def ask(self, request: ChatRequest, arrived_at: float) -> Ask:
        """The request in tokens. Raises ChatRejected."""
        language, service, n_ctx = self._language, request.service, self._rules.n_ctx
        most_bytes = n_ctx * language.most_bytes_per_token
        n_characters = sum(len(one["content"]) for one in request.messages)
        if n_characters > most_bytes:  # each is a byte at least; making tokens of very long texts takes seconds
            raise _too_long(n_ctx, f"at least {math.ceil(n_characters / language.most_bytes_per_token)}")
        language.check(request)
        prompt = language.prompt(request.messages)
        room = n_ctx - len(prompt.tokens)
        if room <= 0:
            raise _too_long(n_ctx, str(len(prompt.tokens)))
        hints = service.hints[:_MOST_HINTS] if self._rules.takes_hints else ()
        return Ask(
            number=next(self._numbers),
            prompt=prompt.tokens,
            stop=(*request.stop, *prompt.stop),
            most_tokens=min(request.max_tokens or room, room),
            domain="" if self._rules.is_shared else service.scope,
            hints=tuple(language.tokenize(hint[:most_bytes]) for hint in hints),
            arrived_at=arrived_at,
        )


def waiter_of(request: ChatRequest, ask: Ask, now: float) -> Waiter:
    """What the queue has to know of a request that comes to it now."""
    service = request.service
    return Waiter(
        number=ask.number,
        scope=service.scope,
        priority=service.priority,
        arrived_at=now,  # in this queue: max_queue_s says nothing of how long the model was being loaded
        deadline_at=math.inf if service.deadline_s is None else ask.arrived_at + service.deadline_s,
        n_prompt_tokens=len(ask.prompt),
        most_tokens=ask.most_tokens,
    )


def _too_long(n_ctx: int, n_tokens: str) -> ChatRejected:
    return ChatRejected(
        f"messages: expected fewer than {n_ctx} tokens, the context of this model, got {n_tokens}",
        "messages",
        "context_length_exceeded",
    )
