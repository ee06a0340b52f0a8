"""What can be asked of a running Echo over HTTP? All behind the proxy's key check, each tenant seeing its own."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import JSONResponse

from echo_proxy.admin.local import LocalView, local_view
from echo_proxy.admin.upkeep import add_upkeep
from echo_proxy.admin.views import (
    DecisionView,
    ExampleView,
    FeedbackBody,
    Forgotten,
    Ready,
    Stats,
    decision_view,
    example_view,
    ready_view,
    stats_view,
)
from echo_proxy.admission.offspring import with_offspring
from echo_proxy.admission.purge import Wording, purge
from echo_proxy.app import App
from echo_proxy.errors import FeedbackRefused, InputError, StoreUnavailable
from echo_proxy.lane import Lane
from echo_proxy.online.receive import own_scope
from echo_proxy.types import Caller, DecisionRecord, Example, Feedback, Which

T = TypeVar("T")
_FEEDBACK_WAIT_S = 2.0
"""An answer may reach its reader, and feedback come back, before the settlement is written."""
_POLL_S = 0.02
_PAGE = 500
_SEARCH_S = 2.0
"""Seconds for which a request may search stored texts for a pattern. # guess, not yet measured"""


def make_router(app: App, authenticate: Any, caller_from: Callable[[Any], Caller]) -> APIRouter:
    """The routes under /echo.

    Args:
        app: this worker's Echo.
        authenticate: the proxy's key check, a FastAPI dependency.
        caller_from: turns what the check returns into a Caller.
    """
    router = APIRouter(prefix="/echo", tags=["Echo Proxy"])

    async def identify(auth: Annotated[Any, Depends(authenticate)]) -> Caller:
        return caller_from(auth)

    for add in (_add_state, _add_decisions, _add_examples, add_upkeep):
        add(router, app, identify)
    return router


Identify = Callable[..., Awaitable[Caller]]
"""FastAPI dependency that says who asks."""


def _add_state(router: APIRouter, app: App, identify: Identify) -> None:
    Who = Annotated[Caller, Depends(identify)]

    @router.get("/ready", response_model=Ready, responses={503: {"model": Ready}})
    async def ready(who: Who) -> JSONResponse:
        """Whether every policy's store is searchable and the policies are in force."""
        view = await ready_view(app)
        return JSONResponse(view.model_dump(), status_code=200 if view.ready else 503)

    @router.get("/stats")
    async def stats(who: Who) -> dict[str, Stats]:
        """Counts, cost, and for admins what the bandit knows, by policy."""
        return {name: await _ask(stats_view(lane, _visible(lane, who), who)) for name, lane in app.lanes.items()}

    @router.get("/local")
    async def local(who: Who) -> list[LocalView]:
        """How the local models are: queue, prefixes, drafts, restarts. For admins only: all tenants share them."""
        if not who.is_admin:
            raise HTTPException(403, "local: expected the key of an admin, got a tenant's")
        return [local_view(one) for one in await app.local.reports()] if app.local is not None else []


def _add_decisions(router: APIRouter, app: App, identify: Identify) -> None:
    Who = Annotated[Caller, Depends(identify)]

    @router.get("/decisions")
    async def decisions(
        who: Who, policy: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 20
    ) -> list[DecisionView]:
        """Which of the newest decisions of the scope are the caller's own (all, with an admin key), newest first."""
        found: list[DecisionRecord] = []
        for lane in _lanes(app, policy):
            newest = await _ask(lane.parts.store.decisions(_visible(lane, who), limit))
            found += [one for one in newest if _is_own(who, one.caller)]
        return [decision_view(one, who) for one in sorted(found, key=lambda one: -one.created_at)[:limit]]

    @router.get("/decisions/{decision_id}")
    async def decision(decision_id: str, who: Who) -> DecisionView:
        """One request explained: candidates, probabilities, adjustments, attempts, outcome, reward."""
        found = await _find_decision(app, decision_id, who, wait_s=0.0)
        return decision_view(found[1], who)

    @router.post("/feedback")
    async def feedback(body: FeedbackBody, who: Who) -> DecisionView:
        """Say what an answer was worth; replaces what was believed of it. A second one replaces the first; after
        twenty changes no more are taken (409)."""
        lane, _ = await _find_decision(app, body.decision_id, who, wait_s=_FEEDBACK_WAIT_S)
        given = Feedback(body.to_score(), body.comment, lane.parts.clock.now())
        try:
            record = await _ask(lane.take_feedback(body.decision_id, given))
        except FeedbackRefused as error:
            raise HTTPException(409, f"feedback: {error}") from error
        if record is None:
            raise _unknown("decision", body.decision_id)
        return decision_view(record, who)


def _add_examples(router: APIRouter, app: App, identify: Identify) -> None:
    Who = Annotated[Caller, Depends(identify)]

    @router.get("/examples")
    async def examples(
        who: Who,
        policy: str | None = None,
        offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> list[ExampleView]:
        """Examples of the caller's scope, newest first; of those in quarantine only his own."""
        found: list[ExampleView] = []
        for lane in _lanes(app, policy):
            page = await _newest_examples(lane, who, offset + limit)
            found += [example_view(one, lane.policy.name, who) for one in page]
        return sorted(found, key=lambda one: -one.created_at)[offset : offset + limit]

    @router.get("/examples/{example_id}")
    async def example(example_id: str, who: Who) -> ExampleView:
        """One example."""
        lane, found = await _find_example(app, example_id, who)
        return example_view(found, lane.policy.name, who)

    @router.delete("/examples/{example_id}")
    async def forget(example_id: str, who: Who) -> Forgotten:
        """Forget one example that the caller wrote, with its copies in wider scopes; with an admin key, any."""
        lane, found = await _find_example(app, example_id, who)
        if not _is_own(who, found.writer):
            raise HTTPException(403, "example: expected one that your key wrote, got another's in the same scope")
        ids = await _ask(with_offspring(lane.parts.store, [found.id]))
        return Forgotten(forgotten=await _ask(lane.parts.store.remove(ids)))

    @router.delete("/examples")
    async def forget_many(
        who: Who,
        policy: str | None = None,
        scope: str | None = None,
        writer: str | None = None,
        before: float | None = None,
        after: float | None = None,
        text: Annotated[str | None, Query(min_length=1, max_length=1000)] = None,
        is_regex: Annotated[bool, Query(alias="regex")] = False,
    ) -> Forgotten:
        """Forget all examples that the caller wrote, in any scope, with their copies; with an admin key, all there are.

        Parameters narrow that down: the scope, the writer's key (hash), written before or after a time (seconds since
        the epoch), a text that stands in request, answer or system prompt (case ignored), or with `regex=true` and an
        admin key a regular expression.
        """
        if not who.is_admin and writer not in (None, who.key):
            raise HTTPException(403, "writer: expected your own key's hash, or an admin key, got another's")
        if is_regex and not who.is_admin:
            raise HTTPException(403, "regex: expected an admin key, or a text without regex=true, got a tenant's key")
        which = Which(scope, writer if who.is_admin else who.key, created_after=after, created_before=before)
        wording = Wording(text, is_regex, time.monotonic() + _SEARCH_S) if text is not None else None
        lanes = _lanes(app, policy)
        return Forgotten(forgotten=sum([await _ask(purge(lane.parts.store, which, wording)) for lane in lanes]))


# ------------------------------------------------------------------ finding what the caller may see


def _visible(lane: Lane, who: Caller) -> str | None:
    """The scope that the caller may see; None = all."""
    return None if who.is_admin else own_scope(who, lane.policy)


def _may_see(lane: Lane, who: Caller, scope: str) -> bool:
    return _visible(lane, who) in (None, scope)


def _is_own(who: Caller, key: str) -> bool:
    """Sharing a scope shares examples: reading them, not what others asked, nor forgetting what others wrote."""
    return who.is_admin or who.key == key


def _lanes(app: App, policy: str | None) -> list[Lane]:
    if policy is None:
        return list(app.lanes.values())
    if policy not in app.lanes:
        raise HTTPException(404, f"policy: expected one of {', '.join(app.lanes)}, got {policy!r}")
    return [app.lanes[policy]]


async def _find_decision(app: App, decision_id: str, who: Caller, wait_s: float) -> tuple[Lane, DecisionRecord]:
    """A decision of somebody else is as unknown as one that never was."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        for lane in app.lanes.values():
            record = await _ask(lane.parts.store.decision(decision_id))
            if record is not None and _may_see(lane, who, record.scope) and _is_own(who, record.caller):
                return lane, record
        if asyncio.get_running_loop().time() >= deadline:
            raise _unknown("decision", decision_id)
        await asyncio.sleep(_POLL_S)


async def _find_example(app: App, example_id: str, who: Caller) -> tuple[Lane, Example]:
    for lane in app.lanes.values():
        found = await _ask(lane.parts.store.get(example_id))
        if found is None:
            continue
        is_shown = _may_see(lane, who, found.scope) and _is_open_to(who, found)
        if is_shown or found.writer == who.key:  # its own copies in wider scopes, too
            return lane, found
    raise _unknown("example", example_id)


async def _newest_examples(lane: Lane, who: Caller, wanted: int) -> list[Example]:
    """Of the caller's scope, newest first; what waits in others' quarantine is as unknown to him as to his prompts."""
    found: list[Example] = []
    offset = 0
    while len(found) < wanted:
        page = await _ask(lane.parts.store.page(_visible(lane, who), offset, max(wanted, _PAGE)))
        found += [one for one in page if _is_open_to(who, one)]
        offset += len(page)
        if len(page) < max(wanted, _PAGE):
            break
    return found[:wanted]


def _is_open_to(who: Caller, example: Example) -> bool:
    return not example.reader or _is_own(who, example.writer)


async def _ask(question: Awaitable[T]) -> T:
    try:
        return await question
    except StoreUnavailable as error:
        raise HTTPException(503, f"the store is away: {error}", {"Retry-After": "1"}) from error
    except InputError as error:
        raise HTTPException(422, str(error)) from error


def _unknown(kind: str, given: str) -> HTTPException:
    return HTTPException(404, f"{kind}: expected the id of one that you may see, got {given!r}")
