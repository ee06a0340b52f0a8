"""Is the same request being answered already, so that this one can wait for that answer? Known to each worker alone.

The first is the leader; those that follow wait for its answer's end. A leader that fails, leaves, or whose answer may
not be shared lets its followers go, and one of them becomes the next leader. One that takes much longer than was to be
expected, or whose reader does not read on, holds nobody up for long, and its words are not waited for again soon.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger

from echo_proxy.online.measure import WHOLE_REASONS, Answer
from echo_proxy.policy import Policy
from echo_proxy.types import Call, Plan

_LONGEST_WAIT_S = 60.0
"""For one request, over all leaders. # guess, not yet measured"""
_TIMES_EXPECTED = 3.0
"""A leader is waited for so many times as long as its arm is expected to take. # guess, not yet measured"""
_LEAST_WAIT_S = 10.0
"""But at least so long: one answer differs from the next in length, and an arm that nobody has heard of may be slow.
# guess, not yet measured"""
_APART_S = 60.0
"""After a wait in vain so long nobody waits for the same request. # guess, not yet measured"""
_MOST_APART = 10_000
_KNOWN = ("echo_proxy.", "litellm.proxy.hooks.")
"""Modules whose callbacks leave the words of a stream as they are."""
_STREAM_HOOKS = (
    "async_post_call_streaming_iterator_hook",
    "async_post_call_streaming_hook",
    "async_post_call_streaming_deployment_hook",
)
_MOST_LEADERS = 2
"""Whoever has followed so many in vain goes alone, or many would fail one after another where a model is down."""


@dataclass(slots=True, eq=False)
class Lead:
    """What followers wait for."""

    key: str
    until: float
    """Monotonic seconds; nobody waits for it any longer."""
    ending: asyncio.Future[Answer | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """None = there is nothing to share."""


class JointFlights:
    """The leaders of this worker. Belongs to one event loop."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Monotonic: seconds of a clock that only goes forward."""
        self._monotonic = monotonic
        self._leads: dict[str, Lead] = {}
        self._apart: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leads)

    def lead(self, key: str, patience_s: float) -> Lead | None:
        """From now on requests with this key follow, until `land`, but for at most `patience_s`; None when another one
        leads them, or when they have waited in vain of late."""
        if key in self._leads or self._apart.get(key, 0.0) > self._monotonic():
            return None
        lead = self._leads[key] = Lead(key, self._monotonic() + patience_s)
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda done: self.land(lead, None) if done.cancelled() else None)
        return lead

    def land(self, lead: Lead | None, answer: Answer | None) -> None:
        """Let the followers go, with the answer or without; what comes later changes nothing."""
        if lead is None or lead.ending.done():
            return
        if self._leads.get(lead.key) is lead:
            del self._leads[lead.key]
        lead.ending.set_result(answer)

    def has_leader(self, key: str) -> bool:
        """Whether a request with this key would follow."""
        return key in self._leads

    async def follow(self, key: str, deadline_s: float | None) -> Answer | None:
        """The answer of a request with this key; None when there is no leader, or none has an answer in time.

        Args:
            key: of the request.
            deadline_s: seconds that it has left; None = no limit of its own.
        """
        until = self._monotonic() + min(_LONGEST_WAIT_S, _LONGEST_WAIT_S if deadline_s is None else deadline_s)
        for _ in range(_MOST_LEADERS):
            lead = self._leads.get(key)
            if lead is None:
                return None
            await asyncio.wait([lead.ending], timeout=max(min(until, lead.until) - self._monotonic(), 0.0))
            if not lead.ending.done():
                if lead.until <= until:
                    self._part(lead)
                return None
            if (answer := lead.ending.result()) is not None:
                return answer
        return None

    def _part(self, lead: Lead) -> None:
        """The leader took too long: the next ones shall not wait for it too, nor soon for another."""
        self.land(lead, None)
        self._apart[lead.key] = self._monotonic() + _APART_S
        self._apart.move_to_end(lead.key)
        if len(self._apart) > _MOST_APART:
            self._apart.popitem(last=False)


def joint_key(call: Call, plan: Plan, policy: Policy, deployments: Collection[str]) -> str:
    """What requests share that may be given one answer; empty when this one shall have its own.

    An answer tells of the examples that it was given with. So those whose prompt may hold examples of other wider
    scopes have another key, and whoever may be shown an example in quarantine, which serves it alone, has one of its
    own.

    Args:
        call: the request, with the parameters that shape its answer.
        plan: what was decided for it.
        policy: of its model group.
        deployments: names of those that may answer it.
    """
    request = plan.request
    rule = policy.answers.single_flight if policy.answers else "off"
    if rule == "off" or policy.mode == "shadow" or not request.answer_key or call.parameters is None:
        return ""
    if request.wants_fresh or request.is_unkept or (rule == "deterministic" and not request.is_deterministic):
        return ""
    reader = request.caller.key if any(one.example.reader for one in plan.selection.chosen) else ""
    shown = [request.scope, *request.wider, reader]
    same = [policy.name, shown, request.answer_key, request.text, request.preference, sorted(deployments)]
    return hashlib.sha256(json.dumps(same).encode()).hexdigest()


def patience_of(plan: Plan) -> float:
    """Seconds for which others may wait for its answer."""
    decision = plan.decision
    forecast = decision.situation.conditions.forecasts.get(decision.arm.name) if decision.situation else None
    expected_s = forecast.latency_s if forecast else 0.0
    return min(max(_TIMES_EXPECTED * expected_s, _LEAST_WAIT_S), _LONGEST_WAIT_S)


def may_change_streams(callback: object) -> bool:
    """Whether a callback of LiteLLM may put other words into a stream than the model's: with what a guardrail has
    taken out of the leader's request, for one, which is none of its followers' business. What LiteLLM reports of a
    stream does not tell. Its own hooks are known not to."""
    kind = type(callback)
    if not isinstance(callback, CustomLogger) or kind.__module__.startswith(_KNOWN):
        return False
    return isinstance(callback, CustomGuardrail) or any(
        getattr(kind, name) is not getattr(CustomLogger, name) for name in _STREAM_HOOKS
    )


def is_shareable(answer: Answer) -> bool:
    """Whether others may be given it: whole, told to its end, and not to be kept secret."""
    is_whole = answer.error is None and answer.was_read_to_end and answer.finish_reason in WHOLE_REASONS
    return is_whole and answer.may_keep and bool(answer.text.strip())
