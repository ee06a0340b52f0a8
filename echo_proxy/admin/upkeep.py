"""What does an admin see of the rounds of upkeep?"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query

from echo_proxy.admin.views import View
from echo_proxy.app import App
from echo_proxy.errors import StoreUnavailable
from echo_proxy.types import Caller, UpkeepRun


class UpkeepView(View):
    """A round of upkeep."""

    id: str
    policy: str
    started_at: float
    """Seconds since the epoch."""
    ended_at: float
    holder: str
    """The process that did it."""
    ending: str
    """done, budget, lease_lost, or the name of an error."""
    cost_usd: float
    report: dict[str, Any]
    """What was planned, done and gained, by kind of work."""


def add_upkeep(router: APIRouter, app: App, identify: Callable[..., Awaitable[Caller]]) -> None:
    """GET /echo/upkeep."""
    Who = Annotated[Caller, Depends(identify)]

    @router.get("/upkeep")
    async def upkeep(
        who: Who, policy: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 20
    ) -> list[UpkeepView]:
        """The newest rounds of upkeep, newest first. For admins only: they tell of all tenants' requests."""
        if not who.is_admin:
            raise HTTPException(403, "upkeep: expected the key of an admin, got a tenant's")
        if policy is not None and policy not in app.lanes:
            raise HTTPException(404, f"policy: expected one of {', '.join(app.lanes)}, got {policy!r}")
        found: list[UpkeepView] = []
        for name, lane in app.lanes.items():
            if policy in (None, name):
                try:
                    found += [_view(run, name) for run in await lane.parts.store.runs(limit)]
                except StoreUnavailable as error:
                    raise HTTPException(503, f"the store is away: {error}", {"Retry-After": "1"}) from error
        return sorted(found, key=lambda one: -one.started_at)[:limit]


def _view(run: UpkeepRun, policy: str) -> UpkeepView:
    return UpkeepView(
        id=run.id,
        policy=policy,
        started_at=run.started_at,
        ended_at=run.ended_at,
        holder=run.holder,
        ending=run.ending,
        cost_usd=run.cost_usd,
        report=dict(run.report),
    )
