"""What does Echo do at each of LiteLLM's hooks? Everything that can fail here fails open in `hooks.py`."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import litellm

from echo_proxy.app import App
from echo_proxy.errors import EmbedderError
from echo_proxy.lane import Lane
from echo_proxy.limits.deadline import deadline_of
from echo_proxy.litellm.answers import answer_from, failure_from, is_deployment_to_blame, is_from_cache, words_of
from echo_proxy.litellm.beside import is_errand, ours
from echo_proxy.litellm.calls import call_from, group_of, stranger, ticket_of
from echo_proxy.litellm.deployments import Deployment, id_of, named, names_of, rooms_of
from echo_proxy.litellm.flights import Flight, FlightBook, Serving, serving_of
from echo_proxy.litellm.headers import plan_headers, serving_headers
from echo_proxy.litellm.joint import JointFlights, is_shareable, joint_key, may_change_streams, patience_of
from echo_proxy.litellm.rewrite import rewrite, uncached
from echo_proxy.litellm.stored import StoredAnswers, is_stored
from echo_proxy.online.service import scope_hash, service_of
from echo_proxy.protocols import Clock
from echo_proxy.telemetry.counts import EVERYONE
from echo_proxy.types import STORED, Attempt, Call, PassThrough, Plan, Service

log = logging.getLogger("echo_proxy")

_MAX_HEADERS = 20_000
_NOBODY_WAITS = -100
"""Least priority."""


class Desk:
    """Echo's side of LiteLLM's hooks. Belongs to one event loop."""

    def __init__(self, app: App, clock: Clock) -> None:
        self.app = app
        self._clock = clock
        self._flights = FlightBook()
        self._headers: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._stored = StoredAnswers()
        self._joint = JointFlights(clock.monotonic)

    # ------------------------------------------------------------------ choosing and equipping

    async def pick(
        self,
        model_group: str,
        healthy: Sequence[Deployment],
        messages: Sequence[Mapping[str, Any]] | None,
        kwargs: Mapping[str, Any],
    ) -> Sequence[Deployment]:
        """The deployments that may serve this attempt; never empty unless `healthy` is, or the call is our own."""
        own = ours(model_group, healthy)
        if own is not None:
            return own
        lane = self.app.lane_for(model_group)
        ticket = ticket_of(kwargs)
        flight = self._flights.get(ticket)
        if flight is not None:
            return self._pick_again(ticket, flight, lane, call_from(model_group, messages, kwargs), healthy)
        if lane is None:
            return healthy
        call = replace(call_from(model_group, messages, kwargs), rooms=rooms_of(healthy))
        plan = await self._plan(lane, call, healthy) if ticket else lane.bypass("no_call_id")
        if isinstance(plan, PassThrough):
            self._note_headers(ticket, {"x-echo-policy": lane.policy.name, "x-echo-pass": plan.reason})
            return self.default(model_group, healthy)
        return await self._serve(ticket, lane, call, plan, healthy)

    async def _serve(
        self, ticket: str, lane: Lane, call: Call, plan: Plan, healthy: Sequence[Deployment]
    ) -> Sequence[Deployment]:
        """By a stored answer, by that of the same request which is being answered, or by a model."""
        key = joint_key(call, plan, lane.policy, names_of(healthy))
        serving = serving_of(plan, self._clock.now())
        if serving is None and self._joint.has_leader(key):
            serving = await self._follow(lane, plan, key)
            if serving is None:
                plan = lane.reroute(plan, names_of(healthy)) or plan
        return self._take_off(ticket, lane, plan, healthy, serving, key)

    async def _follow(self, lane: Lane, plan: Plan, key: str) -> Serving | None:
        lane.call_off(plan)
        spent_s = max(self._clock.now() - plan.request.received_at, 0.0)
        deadline_s = deadline_of(plan.request, lane.policy)
        try:
            answer = await self._joint.follow(key, None if deadline_s is None else deadline_s - spent_s)
        except asyncio.CancelledError:
            lane.give_up(plan)
            raise
        return Serving(answer.text, "shared") if answer is not None else None

    async def _plan(self, lane: Lane, call: Call, healthy: Sequence[Deployment]) -> Plan | PassThrough:
        try:
            return await lane.plan(call, names_of(healthy))
        except TimeoutError:
            return lane.bypass("deadline")
        except EmbedderError as error:
            log.warning("call %s goes on without Echo: %s", call.call_id, error)
            return lane.bypass("embedder")

    def _take_off(
        self,
        ticket: str,
        lane: Lane,
        plan: Plan,
        healthy: Sequence[Deployment],
        serving: Serving | None,
        key: str,
    ) -> Sequence[Deployment]:
        if (other := self._flights.get(ticket)) is not None:
            lane.give_up(plan)
            return self._confused(ticket, other, healthy)
        decision = None if plan.is_shadow or serving is not None else plan.decision
        flight = Flight(lane, plan, self._clock.monotonic(), decision, awaits_deployment=True, serving=serving)
        if (
            key
            and serving is None
            and not (plan.request.is_streamed and any(map(may_change_streams, litellm.callbacks)))
        ):
            flight.lead = self._joint.lead(key, patience_of(plan))
        for lost in self._flights.put(ticket, flight):
            self._lose(lost)
        self._note_headers(ticket, serving_headers(plan, serving) if serving else plan_headers(plan))
        if serving is not None:
            return [self._stored.deployment(healthy[0], plan.request.decision_id, serving.text)]
        return healthy if decision is None else named(decision.arm.deployment, healthy)

    def _confused(self, ticket: str, flight: Flight, healthy: Sequence[Deployment]) -> Sequence[Deployment]:
        """One key has two requests with the same id in flight: they cannot be told apart, so neither is served."""
        self._flights.drop(ticket)
        self._lose(flight)
        flight.lane.bypass("call_id_reused", flight.plan.request.scope)
        return healthy

    def _lose(self, flight: Flight) -> None:
        self._joint.land(flight.lead, None)
        flight.lane.give_up(flight.plan)  # its stored answer, if any, may still be on its way

    def _pick_again(
        self, ticket: str, flight: Flight, lane: Lane | None, call: Call, healthy: Sequence[Deployment]
    ) -> Sequence[Deployment]:
        """A retry, or a fallback to another group: draw again among what has not failed this request."""
        if not call.messages or call.messages[-1].content != flight.plan.request.text:
            return self._confused(ticket, flight, healthy)
        flight.awaits_deployment = True
        flight.decision = flight.serving = None
        self._note_headers(ticket, {**plan_headers(flight.plan), "x-echo-arm": "none", "x-echo-examples": "0"})
        if lane is not flight.lane or flight.plan.is_shadow:
            return healthy
        fresh = [one for one in healthy if id_of(one) not in flight.failed_deployments] or healthy
        again = flight.lane.reroute(flight.plan, names_of(fresh))
        if again is None:
            return healthy
        flight.plan, flight.decision = again, again.decision
        self._note_headers(ticket, plan_headers(again))
        return named(again.decision.arm.deployment, fresh)

    def equip(self, kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """The request with its examples, once the deployment of an attempt is known; None = send it as it is.

        LiteLLM calls this for the outer and again for the inner call of bridged endpoints: only the first counts.
        """
        flight = self._flights.get(ticket_of(kwargs))
        if flight is None or not flight.awaits_deployment:
            return None
        flight.awaits_deployment, flight.words = False, None
        if is_stored(kwargs):
            flight.attempts.append(Attempt(STORED, STORED, None))
            return uncached(kwargs)
        attempt = self._attempt(flight, kwargs)
        has_examples = attempt.decision is not None and flight.plan.prompt.n_examples > 0
        changed = rewrite(flight.plan.request.endpoint, kwargs, flight.plan.prompt) if has_examples else None
        flight.attempts.append(attempt)
        return changed

    def service(self, kwargs: Mapping[str, Any]) -> Service:
        """What a local engine is told of the call that it is about to answer. Nothing of it comes from the caller's
        body: the flight is found by the key that LiteLLM has checked."""
        if is_errand():
            return Service(scope_hash("echo:beside"), _NOBODY_WAITS)
        flight = self._flights.get(ticket_of(kwargs))
        if flight is None:
            lane = self.app.lane_for(group_of(kwargs))
            return stranger(kwargs, lane.policy if lane is not None else None)
        is_ours = bool(flight.attempts) and flight.attempts[-1].decision is not None
        return service_of(flight.plan, flight.lane.policy, flight.lane.parts.clock.now(), is_ours=is_ours)

    def _attempt(self, flight: Flight, kwargs: Mapping[str, Any]) -> Attempt:
        deployment_id = str((kwargs.get("model_info") or {}).get("id") or "")
        names = {deployment_id, str(kwargs.get("model") or "")}
        known = next((arm.deployment for arm in flight.lane.policy.arms if arm.deployment in names), deployment_id)
        decision = flight.decision if flight.decision and flight.decision.arm.deployment in names else None
        return Attempt(deployment_id, known, decision)

    # ------------------------------------------------------------------ what came of it

    def note_attempt_failure(self, kwargs: Mapping[str, Any], error: BaseException) -> None:
        """An attempt of one deployment failed; another may follow."""
        flight = self._flights.get(ticket_of(kwargs))
        if flight is None or not flight.attempts or flight.attempts[-1].error is not None:
            return
        blamed = is_deployment_to_blame(error, flight.plan.prompt.n_examples)
        flight.attempts[-1] = replace(flight.attempts[-1], error=type(error).__name__, is_blamed=blamed)

    def note_words(self, kwargs: Mapping[str, Any], response: Any) -> None:
        """A deployment has answered, and neither guardrail nor hook has changed that; of streams nothing is told here.

        Of bridged endpoints the inner call comes first, and counts.
        """
        flight = self._flights.get(ticket_of(kwargs))
        if flight is not None and flight.words is None:
            flight.words = words_of(response) or None

    def note_answer(self, kwargs: Mapping[str, Any], response: Any) -> None:
        """A call succeeded, perhaps as the inner half of a bridged one; the first report with an answer counts."""
        ticket = ticket_of(kwargs)
        flight = self._flights.get(ticket)
        if flight is None or flight.answer is not None:
            return
        flight.answer = answer_from(kwargs, response)
        if is_from_cache(kwargs) and flight.attempts:
            flight.attempts[-1] = replace(flight.attempts[-1], decision=None)
        self._settle_if_due(ticket, flight)

    def note_stream_end(self, data: Mapping[str, Any], is_whole: bool) -> None:
        """The caller has read a stream to its end, or left it."""
        ticket = ticket_of(data)
        flight = self._flights.get(ticket)
        if flight is None:
            return
        flight.stream_end = is_whole
        if not is_whole:
            self._joint.land(flight.lead, None)
        self._settle_if_due(ticket, flight)

    def note_failure(self, data: Mapping[str, Any], error: BaseException) -> None:
        """The caller got an error: all attempts have failed."""
        ticket = ticket_of(data)
        self._note_retry_after(ticket, error)
        flight = self._flights.get(ticket)
        if flight is None:
            return
        self.note_attempt_failure(data, error)  # an answer that a guardrail withheld is no answer of that deployment
        flight.answer = failure_from(error, flight.plan.request.received_at, self._clock.now())
        self._settle_if_due(ticket, flight)

    def _settle_if_due(self, ticket: str, flight: Flight) -> None:
        if not flight.is_due or flight.answer is None:
            return
        flight.is_settled = True
        self._flights.drop(ticket)
        self._stored.forget(flight.plan.request.decision_id)
        answer = replace(flight.answer, was_read_to_end=flight.stream_end is not False)
        self._joint.land(flight.lead, replace(answer, text=flight.given(answer)) if is_shareable(answer) else None)
        if flight.given(answer) != answer.text:  # perhaps the caller's own names were put back: they are nobody else's
            answer = replace(answer, may_keep=False)
        flight.lane.settle(flight.plan, answer, flight.attempts)

    # ------------------------------------------------------------------ telling

    def headers(self, data: Mapping[str, Any]) -> dict[str, str]:
        """Response headers of a call."""
        return self._headers.get(ticket_of(data), {})

    def default(self, model_group: str, healthy: Sequence[Deployment]) -> Sequence[Deployment]:
        """Where calls go that Echo passes through or bypasses."""
        lane = self.app.lane_for(model_group)
        if lane is None or lane.policy.mode == "shadow":
            return healthy
        return named(lane.policy.default_deployment, healthy)

    def bypass(self, model_group: str, error: BaseException) -> None:
        """Count a failure of ours that was kept from the caller."""
        lane = self.app.lane_for(model_group) or next(iter(self.app.lanes.values()))
        lane.bypass(f"error_{type(error).__name__}", EVERYONE)

    def _note_retry_after(self, ticket: str, error: BaseException) -> None:
        """LiteLLM renames a provider's headers, and no client looks at `llm_provider-retry-after`."""
        told = getattr(getattr(error, "response", None), "headers", None) or {}
        if ticket and getattr(error, "status_code", None) in (429, 503) and "retry-after" in told:
            self._note_headers(ticket, {**self._headers.get(ticket, {}), "retry-after": str(told["retry-after"])})

    def _note_headers(self, ticket: str, headers: dict[str, str]) -> None:
        self._headers[ticket] = headers
        if len(self._headers) > _MAX_HEADERS:
            self._headers.popitem(last=False)
